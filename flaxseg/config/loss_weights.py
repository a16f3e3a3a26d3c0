"""The allowed weights of losses: those of one run, and those of several runs that are trained together."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.allowed import EntryName, Rule, as_plain, is_tuple_of
from flaxseg.errors import NON_NEGATIVE, ArgumentError, nearest

_DEFAULT = "cross_entropy"


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """A group with a weight for each loss; the names and weights in it are checked elsewhere.

    Attributes:
      table: the losses by name; the error suggests one of them.
    """

    table: Mapping[str, Any]

    def __str__(self) -> str:
        return f"a group of weights of at least 0, named {EntryName(self.table)}"

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the value is a group."""
        if not isinstance(value, Mapping | ConfigDict):
            raise ArgumentError(argument, as_plain(value), f"must be {self}; {self._remedy(argument, value)}")

    def _remedy(self, argument: str, value: Any) -> str:
        name = (nearest(value, self.table) if isinstance(value, str) else "") or "dice"
        flags = f"--config.{argument}.{name}=1.0"
        if name != _DEFAULT:
            flags += f", with --config.{argument}.{_DEFAULT}=0.0 to leave out the default,"
        return f"write {flags} or, in a file, config.{argument} = {{{name!r}: 1.0}}"


def _is_group_of_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping | ConfigDict)
        and all(isinstance(name, str) for name in value)
        and all(weight in NON_NEGATIVE for weight in value.values())
        and any(weight > 0 for weight in value.values())
    )


def _nonzero(weights: Mapping[str, float]) -> frozenset[tuple[str, float]]:
    return frozenset((name, weight) for name, weight in weights.items() if weight)


GROUPS_OF_WEIGHTS = Rule(
    "a tuple of different groups of weights, as in ({'dice': 0.5}, {'dice': 1.0, 'cross_entropy': 1.0}), each at least "
    "0, and one of each group above 0",
    lambda value: is_tuple_of(value, _is_group_of_weights) and len({*map(_nonzero, value)}) == len(value),
)
