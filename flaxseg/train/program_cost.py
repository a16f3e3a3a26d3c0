"""What a compiled program costs: its memory, its floating-point operations, and its communication between devices."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax

from flaxseg.models.flops import multiply_adds

_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16}
_COLLECTIVE = re.compile(
    r"= (?P<shapes>.+?) (?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-done)?\("
)
"""An operation that moves data between devices in the text of a program. An asynchronous one ends with `-done`."""

_SHAPE = re.compile(r"\b(?P<type>pred|bf16|[suf]\d+\w*)\[(?P<sizes>[\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """The costs of a program on each of its devices.

    Attributes:
      memory: bytes that are in use at its peak: arguments, results and temporary arrays.
      temporaries: bytes of its temporary arrays, above all the activations.
      flops: floating-point operations of its convolutions and matrix products; a multiply-add is two.
      bytes_accessed: bytes that its operations read and write, after XLA's fusions for this platform.
      collectives: for each operation between devices, by name, how many there are, and the bytes of their results.
      text: number of characters of the compiled program, in XLA's notation.
    """

    memory: int
    temporaries: int
    flops: float
    bytes_accessed: float
    collectives: Mapping[str, tuple[int, int]]
    text: int


def cost_of(function: Any, *arguments: Any, devices: int) -> ProgramCost:
    """Returns the cost of a program, which is compiled for this, but not run.

    Args:
      function: a jitted function.
      *arguments: its arguments; `jax.ShapeDtypeStruct` with a sharding for arrays.
      devices: number of devices that the work is split over.
    """
    traced = function.trace(*arguments)
    compiled = traced.lower().compile()
    memory, costs, text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text()
    return ProgramCost(
        memory=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=2 * multiply_adds(traced.jaxpr) / devices,
        bytes_accessed=costs.get("bytes accessed", 0.0),
        collectives=collectives(text),
        text=len(text),
    )


def collectives(program: str) -> dict[str, tuple[int, int]]:
    """Returns how many operations between devices a program has, by name, and the bytes of their results.

    Args:
      program: the text of a compiled program, in XLA's notation.
    """
    found: dict[str, tuple[int, int]] = {}
    for match in _COLLECTIVE.finditer(program):
        count, size = found.get(match["name"], (0, 0))
        sizes = (_bytes(shape["type"], shape["sizes"]) for shape in _SHAPE.finditer(match["shapes"]))
        found[match["name"]] = count + 1, size + sum(sizes)
    return found


def shard_bytes(tree: Any) -> int:
    """Returns the bytes that each device holds of a tree of arrays, or of their shapes with a sharding."""
    return sum(leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _bytes(dtype: str, sizes: str) -> int:
    bits = _BITS.get(dtype) or int(re.sub(r"\D", " ", dtype).split()[0])
    return math.prod(map(int, filter(None, sizes.split(",")))) * bits // 8
