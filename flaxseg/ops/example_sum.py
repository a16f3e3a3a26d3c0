"""Sums over the examples and rows of a batch that is split over devices."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec


class _Split(NamedTuple):
    """Devices, the axes that examples are split over, and whether rows are split, too."""

    mesh: Mesh
    axes: tuple[str, ...]
    rows: bool


_split: contextvars.ContextVar[_Split | None] = contextvars.ContextVar("split", default=None)


@contextlib.contextmanager
def examples_split_over(mesh: Mesh, axes: Sequence[str], *, rows: bool = False) -> Iterator[None]:
    """Makes operations traced in the `with` block add sums over examples between devices only once.

    Args:
      mesh: the devices.
      axes: the axes of the mesh that the examples of each batch are split over, evenly.
      rows: rows are split, too. Operations then leave sums over them to XLA's partitioner.
    """
    token = _split.set(_Split(mesh, tuple(axes), rows))
    try:
        yield
    finally:
        _split.reset(token)


def rows_are_split() -> bool:
    """Returns whether the caller is traced in an `examples_split_over(..., rows=True)` block."""
    split = _split.get()
    return split is not None and split.rows


def sum_over_examples(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """Returns `function(*operands)`, an array that is a sum over the examples, the first axis of each operand.

    In an `examples_split_over` block, each device computes the sum over its own examples, and the results are added.
    Otherwise XLA's partitioner splits the function, and adds each of its terms between the devices.
    """
    split = _split.get()
    if split is None or split.rows:
        return function(*operands)

    def add(*operands: Any) -> jax.Array:
        token = _split.set(None)  # Each device adds up its own examples.
        try:
            return jax.lax.psum(function(*operands), split.axes)
        finally:
            _split.reset(token)

    # With check_vma, gradients computed in the function would be added between devices, too.
    options: dict[str, Any] = {"in_specs": PartitionSpec(split.axes), "out_specs": PartitionSpec(), "check_vma": False}
    return jax.shard_map(add, mesh=split.mesh, **options)(*operands)
