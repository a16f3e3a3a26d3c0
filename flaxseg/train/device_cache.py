"""A whole dataset on the accelerators: decoded once, sharded over the mesh, and read inside the jitted step."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxseg.data.batching import check_same_format
from flaxseg.data.memory import available_memory
from flaxseg.data.threads import read_in_order
from flaxseg.data.types import Batch, Example
from flaxseg.errors import DataError
from flaxseg.train.sharding import EXAMPLES, batch_divisor, batch_sharding, example_sharding

Stored = Mapping[str, jax.Array]
"""`image` [N, H, W, C] and `label` [N, H, W], examples over `data` and `fsdp`, rows over `spatial`."""


@dataclasses.dataclass(frozen=True)
class Loader:
    """Copies a dataset to the devices when it is first called; see `load` for its attributes."""

    count: int
    read: Callable[[int], Example]
    mesh: Mesh
    num_threads: int

    def __call__(self) -> Stored:
        """Returns all examples on the devices, copied once."""
        return self._stored

    @functools.cached_property
    def _stored(self) -> Stored:
        return load(self.count, self.read, self.mesh, num_threads=self.num_threads)

    def shapes(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Returns the shapes, types and shardings of the arrays that a call returns; reads one example."""
        return _shapes(self.read(0), self.count, self.mesh)


def load(count: int, read: Callable[[int], Example], mesh: Mesh, *, num_threads: int) -> Stored:
    """Returns all examples of a dataset on the devices; each process reads the examples of its own devices.

    Args:
      count: the number of examples; padding makes it a multiple of the number of shards.
      read: returns the example of an index; all have the same shape.
      mesh: the devices.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.

    Raises:
      DataError: an example cannot be read or has another format, or there is too little memory; the message names both
        sizes.
    """
    first = read(0)
    whole = _shapes(first, count, mesh)
    shape = {key: found.shape for key, found in whole.items()}
    spans = [
        indices[0].indices(shape["label"][0])  # type: ignore[index]
        for indices in whole["label"].sharding.addressable_devices_indices_map(shape["label"]).values()
    ]
    begin, end = min(span[0] for span in spans), max(span[1] for span in spans)
    _check_memory(first, count, end - begin, mesh)
    arrays = {key: np.zeros((end - begin, *shape[key][1:]), first[key].dtype) for key in shape}  # type: ignore[literal-required]
    # Padding is never looked up, so it need not be read.
    indices = range(begin, min(end, count))
    for row, example in enumerate(read_in_order(indices, read, num_threads=num_threads, description="load")):
        check_same_format(first, example, "image")
        for key, array in arrays.items():
            array[row] = example[key]  # type: ignore[literal-required]

    def shard_reader(key: str) -> Callable[[Any], np.ndarray]:
        def read_shard(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(shape[key][0])
            return arrays[key][(slice(start - begin, stop - begin), *index[1:])]

        return read_shard

    return {key: jax.make_array_from_callback(shape[key], whole[key].sharding, shard_reader(key)) for key in shape}


def take(stored: Stored, index: jax.Array, mesh: Mesh) -> Batch:
    """Returns the batch of the examples `index`, int32[B], sharded like every batch; call it under jit."""
    if batch_divisor(mesh) == 1:
        # One example after another, because XLA would fuse a single gather into what follows and read byte by byte.
        lookup = functools.partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        return {key: jax.lax.map(functools.partial(lookup, value), index) for key, value in stored.items()}

    def take_local(held: jax.Array, local_index: jax.Array) -> jax.Array:
        all_indices = jax.lax.all_gather(local_index, EXAMPLES, tiled=True)
        row = all_indices - jax.lax.axis_index(EXAMPLES) * held.shape[0]
        is_here = (row >= 0) & (row < held.shape[0])
        found = held[jnp.clip(row, 0, held.shape[0] - 1)]
        # Exactly one device holds each example, so the sum over the devices is that example.
        found = jnp.where(is_here.reshape(-1, *(1,) * (held.ndim - 1)), found, jnp.zeros_like(found))
        return jax.lax.psum_scatter(found, EXAMPLES, scatter_dimension=0, tiled=True)

    def take_sharded(value: jax.Array) -> jax.Array:
        spec = _sharding(mesh, value.shape).spec
        specs = (spec, PartitionSpec(EXAMPLES))
        return jax.shard_map(take_local, mesh=mesh, in_specs=specs, out_specs=spec)(value, index)

    return {key: take_sharded(value) for key, value in stored.items()}


def _shapes(first: Example, count: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, types and shardings of all examples on the devices, given the first and their number."""
    parts, found = batch_divisor(mesh), {}
    for key in ("image", "label"):
        array: np.ndarray = first[key]  # type: ignore[literal-required]
        shape = (-(-count // parts) * parts, *array.shape)
        found[key] = jax.ShapeDtypeStruct(shape, array.dtype, sharding=_sharding(mesh, shape))
    return found


def _sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    return batch_sharding(mesh) if shape[1] % mesh.shape["spatial"] == 0 else example_sharding(mesh)


def _check_memory(first: Example, count: int, held: int, mesh: Mesh) -> None:
    """Raises DataError if the devices of this process, or the host on the way to them, have too little memory."""
    size = held * (first["image"].nbytes + first["label"].nbytes)
    statistics = [device.memory_stats() or {} for device in mesh.local_devices]
    free = [s["bytes_limit"] - s["bytes_in_use"] for s in statistics if "bytes_limit" in s]
    available = {"of the devices' memory": sum(free)} if free else {}
    available["of the host's memory"] = available_memory()
    for memory, limit in available.items():
        if size > 0.8 * limit:
            raise DataError(
                f"config.data.cache = 'device': {count:,} examples of {'x'.join(map(str, first['image'].shape))} need "
                f"{size / 2**20:,.1f} MiB here, and {limit / 2**20:,.1f} MiB {memory} are free; use "
                "config.data.cache = 'host' or 'none', more devices, or a smaller config.data.image_size"
            )
