"""Sums over examples that are split over devices."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

_split: contextvars.ContextVar[tuple[Mesh, tuple[str, ...]] | None] = contextvars.ContextVar("split", default=None)


@contextlib.contextmanager
def examples_split_over(mesh: Mesh, axes: Sequence[str]) -> Iterator[None]:
    """Makes operations traced in the `with` block add sums over examples between devices only once.

    Args:
      mesh: the devices.
      axes: the axes of the mesh that the examples of each batch are split over, evenly.
    """
    token = _split.set((mesh, tuple(axes)))
    try:
        yield
    finally:
        _split.reset(token)


def sum_over_examples(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """Returns `function(*operands)`, an array that is a sum over the examples, the first axis of each operand.

    In an `examples_split_over` block, each device computes the sum over its own examples, and the results are added.
    Otherwise XLA's partitioner splits the function, and adds each of its terms between the devices.
    """
    split = _split.get()
    if split is None:
        return function(*operands)
    mesh, axes = split

    def add(*operands: Any) -> jax.Array:
        token = _split.set(None)  # Each device adds up its own examples.
        try:
            return jax.lax.psum(function(*operands), axes)
        finally:
            _split.reset(token)

    # With check_vma, gradients computed in the function would be added between devices, too.
    parts = jax.shard_map(add, mesh=mesh, in_specs=PartitionSpec(axes), out_specs=PartitionSpec(), check_vma=False)
    return parts(*operands)
