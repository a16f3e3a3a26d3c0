"""A whole dataset on the accelerators: decoded once, sharded over the mesh, and read inside the jitted step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from flaxseg.data.batching import check_same_format
from flaxseg.data.host_cache import available_memory
from flaxseg.data.threads import read_in_order
from flaxseg.data.types import Batch, Example
from flaxseg.errors import DataError
from flaxseg.train.sharding import batch_sharding

Stored = Mapping[str, jax.Array]
"""`image` [N, H, W, C] and `label` [N, H, W], examples over `data` and `fsdp`, rows over `spatial`."""

_EXAMPLES = ("data", "fsdp")


def load(count: int, read: Callable[[int], Example], mesh: Mesh, *, num_threads: int) -> Stored:
    """Returns all examples on the devices, each process reading those that its own devices hold.

    Args:
      count: how many examples there are; they are filled up to a multiple of the devices they are split over.
      read: index -> example, all of one shape.
      mesh: from sharding.make_mesh().
      num_threads: threads that read, as of `flaxseg.data.threads.read_in_order`.

    Raises:
      DataError: an example that cannot be read or differs in its channels, or too little memory (both figures).
    """
    first = read(0)
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    shape = {key: (-(-count // parts) * parts, *first[key].shape) for key in ("image", "label")}  # type: ignore[literal-required]
    where = {key: _placement(mesh, shape[key]) for key in shape}
    spans = [
        indices[0].indices(shape["label"][0])
        for indices in where["label"].addressable_devices_indices_map(shape["label"]).values()
    ]
    begin, end = min(span[0] for span in spans), max(span[1] for span in spans)
    _check_memory(first, count, end - begin, mesh)
    arrays = {key: np.zeros((end - begin, *shape[key][1:]), first[key].dtype) for key in shape}  # type: ignore[literal-required]
    # Those that only fill up are never asked for, and need not be read.
    wanted = range(begin, min(end, count))
    for place, example in enumerate(read_in_order(wanted, read, num_threads=num_threads, description="load")):
        check_same_format(first, example, "image")
        for key, array in arrays.items():
            array[place] = example[key]  # type: ignore[literal-required]

    def part(key: str) -> Callable[[Any], np.ndarray]:
        def of_device(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(shape[key][0])
            return arrays[key][(slice(start - begin, stop - begin), *index[1:])]

        return of_device

    return {key: jax.make_array_from_callback(shape[key], where[key], part(key)) for key in shape}


def take(stored: Stored, index: jax.Array, mesh: Mesh) -> Batch:
    """Returns the batch of these examples, int32[B]; each device gets its share. To be called under jit."""
    if mesh.shape["data"] * mesh.shape["fsdp"] == 1:
        # One after the other: as one reading, XLA would merge it into what comes next and read byte by byte.
        each = functools.partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        return {key: jax.lax.map(functools.partial(each, value), index) for key, value in stored.items()}

    def local(held: jax.Array, wanted: jax.Array) -> jax.Array:
        everyone_wants = jax.lax.all_gather(wanted, _EXAMPLES, tiled=True)
        place = everyone_wants - jax.lax.axis_index(_EXAMPLES) * held.shape[0]
        is_here = (place >= 0) & (place < held.shape[0])
        found = held[jnp.clip(place, 0, held.shape[0] - 1)]
        # One device alone holds each example, so that the sum over all of them is that example.
        found = jnp.where(is_here.reshape(-1, *(1,) * (held.ndim - 1)), found, jnp.zeros_like(found))
        return jax.lax.psum_scatter(found, _EXAMPLES, scatter_dimension=0, tiled=True)

    def one(value: jax.Array) -> jax.Array:
        spec = _placement(mesh, value.shape).spec
        return jax.shard_map(local, mesh=mesh, in_specs=(spec, PartitionSpec(_EXAMPLES)), out_specs=spec)(value, index)

    return {key: one(value) for key, value in stored.items()}


def _placement(mesh: Mesh, shape: tuple[int, ...]) -> Any:
    whole = batch_sharding(mesh)
    splits = shape[1] % mesh.shape["spatial"] == 0
    return whole if splits else jax.sharding.NamedSharding(mesh, PartitionSpec(_EXAMPLES))


def _check_memory(first: Example, count: int, held: int, mesh: Mesh) -> None:
    """Raises DataError where this process's devices, or the host on the way to them, have too little memory."""
    each = first["image"].nbytes + first["label"].nbytes
    devices = mesh.local_devices
    statistics = [device.memory_stats() or {} for device in devices]
    free = [s["bytes_limit"] - s["bytes_in_use"] for s in statistics if "bytes_limit" in s]
    limits = {"of the devices' memory": sum(free)} if free else {}
    limits["of the host's memory"] = available_memory()
    for what, size in limits.items():
        if held * each > 0.8 * size:
            raise DataError(
                f"data.cache = 'device': {count:,} examples of {'x'.join(map(str, first['image'].shape))} need "
                f"{held * each / 2**20:,.1f} MiB here, and {size / 2**20:,.1f} MiB {what} are free; use "
                "data.cache = 'host' or 'none', more devices, or a smaller data.image_size"
            )
