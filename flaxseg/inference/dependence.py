"""What is known about an array of a traced program: which of its elements depend on marked elements of the inputs."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxseg.inference import patterns
from flaxseg.inference.patterns import Pattern


@dataclasses.dataclass(frozen=True)
class Cause:
    """The operation that made a result depend on the whole input, or on its position.

    Attributes:
      layer: the path of the module that it belongs to.
      operation: the name of its primitive.
      on_position: whether its weights differ from one position to the next, instead of covering the whole input.
    """

    layer: str
    operation: str
    on_position: bool = False


@dataclasses.dataclass(frozen=True)
class Dependence:
    """What is known about an array.

    Attributes:
      shape: the array's shape.
      marked: the elements that depend on a marked input.
      nonzero: the elements that can differ from zero, of arrays without marked elements; all of others.
      value: the array itself, where it is a constant.
      cause: the operation that made it depend on the whole input; None: it does not.
    """

    shape: tuple[int, ...]
    marked: Pattern
    nonzero: Pattern
    value: Any = None
    cause: Cause | None = None

    @property
    def size(self) -> int:
        """The number of the array's elements."""
        return math.prod(self.shape)


def unmarked(shape: Sequence[int], value: Any = None) -> Dependence:
    """Returns the dependence of an array that depends on no marked input, such as a parameter or a constant."""
    nonzero = patterns.uniform(True, len(shape))
    if value is not None:
        nonzero = patterns.compress(np.asarray(value != 0))
    return Dependence(tuple(shape), patterns.uniform(False, len(shape)), nonzero, value)


def constant(value: Any) -> Dependence:
    """Returns the dependence of a constant."""
    return unmarked(np.shape(value), np.asarray(value))
