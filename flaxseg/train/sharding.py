"""The device mesh, and the placement of state and batches on it: the same program runs on one device or many."""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxseg.data.types import Batch
from flaxseg.errors import ArgumentError

AXES = ("replicas", "data", "fsdp", "spatial")
"""Examples are split over the first three, parameters over `fsdp`, and rows of images over `spatial`."""

EXAMPLES = ("replicas", "data", "fsdp")
"""The axes that the examples of a batch are split over."""


def make_mesh(*, data: int = -1, fsdp: int = 1, spatial: int = 1, replicas: int = 1) -> Mesh:
    """Returns a mesh over the devices of all processes; see `grid_of`."""
    return _mesh(grid_of(data=data, fsdp=fsdp, spatial=spatial, replicas=replicas))


def grid_of(*, data: int = -1, fsdp: int = 1, spatial: int = 1, replicas: int = 1) -> np.ndarray:
    """Returns the devices of all processes in the order of a mesh, as an array with an axis for each of AXES.

    The devices of a replica are neighbors. On several TPU slices, between which the network is slow, a number of
    replicas that is a multiple of the number of slices keeps each replica within a slice: only gradients leave it.

    Args:
      data: number of shards of the batch; -1: all devices that the other axes leave.
      fsdp: number of shards of the parameters, the optimizer state, and also the batch.
      spatial: number of shards of the rows of the images.
      replicas: number of shards of the batch, each of which has the whole state.

    Raises:
      ArgumentError: the number of devices is not a multiple of the number of shards.
    """
    devices = jax.device_count()
    others = replicas * fsdp * spatial
    parts = max(devices // others, 1) if data == -1 else data
    needed = parts * others
    if needed > devices or devices % needed:
        raise ArgumentError(
            "data",
            data,
            f"with fsdp = {fsdp}, spatial = {spatial} and replicas = {replicas}, the mesh has {needed} devices, which "
            f"does not divide the number of devices, {devices}; use data = -1, and divisors of {devices} for the rest",
        )
    by_slice = sorted(jax.devices(), key=lambda device: getattr(device, "slice_index", 0))
    return np.asarray(by_slice[:needed]).reshape(replicas, parts, fsdp, spatial)


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Returns a mesh that splits the examples of a batch over these devices, and nothing else."""
    return _mesh(np.asarray(devices).reshape(1, -1, 1, 1))


def batch_divisor(mesh: Mesh) -> int:
    """Returns the number of shards of the examples of a batch."""
    return math.prod(mesh.shape[axis] for axis in EXAMPLES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of `image` and `label`: examples over EXAMPLES, rows over spatial."""
    return NamedSharding(mesh, PartitionSpec(EXAMPLES, "spatial"))


def example_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose examples are split over EXAMPLES, and nothing else."""
    return NamedSharding(mesh, PartitionSpec(EXAMPLES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that are replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Returns a sharding for each array of a state, given as arrays or shapes.

    Arrays of two or more axes are split over `fsdp` along their last axis of a divisible size, which for a kernel is
    its output channels; the others are replicated. A network that is applied to such parameters has to be wrapped with
    `partition_safely`.
    """
    parts = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or len(leaf.shape) < 2 or not axes:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*(None,) * axes[-1], "fsdp"))

    return jax.tree.map(sharding, state)


def batch_placement(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array of a batch."""
    # `size` has no rows of pixels, and the rows of labels at native resolution may not divide over the devices.
    has_rows = len(shape) > 2 and shape[1] % mesh.shape["spatial"] == 0
    return batch_sharding(mesh) if has_rows else example_sharding(mesh)


def place_batch(batch: Batch, mesh: Mesh, *, is_stacked: bool = False) -> Batch:
    """Returns a batch placed on the devices; with several processes, each passes its own part of the examples.

    Args:
      batch: arrays of examples.
      mesh: the mesh of devices.
      is_stacked: whether these are several batches, so that a leading axis, which is not split, counts them.
    """

    def place(value: np.ndarray) -> jax.Array:
        where = batch_placement(value.shape[is_stacked:], mesh)
        if is_stacked:
            where = _stacked_sharding(where)
        return jax.make_array_from_process_local_data(where, value)

    return jax.tree.map(place, dict(batch))  # type: ignore[no-any-return]


def batch_shapes(batch: Batch, mesh: Mesh, *, size: int, steps: int = 1) -> Batch:
    """Returns the shapes, types and shardings that a batch like this one has on the devices; see `place_batch`.

    Args:
      batch: arrays of examples, of which only the shapes and types matter.
      mesh: the mesh of devices.
      size: number of examples, over all devices.
      steps: number of batches that are placed together; above 1, a leading axis counts them.
    """

    def shape_of(value: np.ndarray) -> jax.ShapeDtypeStruct:
        shape = (size, *value.shape[1:])
        where = batch_placement(shape, mesh)
        if steps > 1:
            shape, where = (steps, *shape), _stacked_sharding(where)
        return jax.ShapeDtypeStruct(shape, value.dtype, sharding=where)

    return jax.tree.map(shape_of, dict(batch))  # type: ignore[no-any-return]


def stacked(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Yields each `count` batches as one, whose arrays have a leading axis; fewer than that at the end are dropped."""
    while len(group := list(itertools.islice(batches, count))) == count:
        yield jax.tree.map(lambda *arrays: np.stack(arrays), *group)


def device_prefetch(batches: Iterator[Batch], mesh: Mesh, *, is_stacked: bool = False) -> Iterator[Batch]:
    """Yields batches on the devices, each transferred one call ahead of the one that uses it.

    Args:
      batches: on the host.
      mesh: the mesh of devices.
      is_stacked: see `place_batch`.
    """
    placed: deque[Batch] = deque()
    for batch in batches:
        placed.append(place_batch(batch, mesh, is_stacked=is_stacked))
        if len(placed) > 1:
            yield placed.popleft()
    yield from placed


def _stacked_sharding(one: NamedSharding) -> NamedSharding:
    """Returns the sharding of arrays with a leading axis that is not split."""
    return NamedSharding(one.mesh, PartitionSpec(None, *one.spec))


def _mesh(devices: np.ndarray) -> Mesh:
    # With explicit axes, the default of jax.make_mesh, every operation of a network would need an output sharding.
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))
