"""The kinds of values that configuration keys can have, each with its check and its description.

`flaxseg.errors.Range`, for a number, is one of them.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from ml_collections import ConfigDict

from flaxseg.errors import NON_NEGATIVE, POSITIVE, ArgumentError, Range, did_you_mean, shown, unusable_number
from flaxseg.metrics.scores import CLASS_IOU
from flaxseg.registry import look_up


class Allowed(Protocol):
    """The allowed values of a key; `str()` describes them in words that complete the sentence "must be ..."."""

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the value is allowed."""


def at_least(low: int) -> Range:
    """Returns the range of the integers that are not below `low`."""
    return Range(low, integer=True)


def at_least_32(low: int) -> Range:
    """Returns the same range for integers that are computed with on devices, in 32 bits."""
    return Range(low, integer=True, limit=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Rule:
    """The values for which a function returns True.

    Attributes:
      words: completes the sentence "must be ...".
      is_allowed: returns whether a value is allowed.
      names: the names that a value may be or contain; the error suggests the nearest.
      instead: what the error about another value adds, for some of them.
    """

    words: str
    is_allowed: Callable[[Any], bool]
    names: Collection[str] = ()
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.words

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the value is allowed."""
        if not self.is_allowed(value):
            raise ArgumentError(argument, as_plain(value), f"must be {self}{unusable_number(value)}{self._hint(value)}")

    def _hint(self, value: Any) -> str:
        if str(value) in self.instead:
            return f"; {self.instead[str(value)]}"
        given = value if _is_tuple(value) else (value,)
        unknown = [name for name in given if isinstance(name, str) and name not in self.names]
        return did_you_mean(unknown[0], self.names) if unknown and self.names else ""


@dataclasses.dataclass(frozen=True)
class EntryName:
    """The name of an entry of a table, or `package.module:function` for a user's function.

    Attributes:
      table: the entries by name.
      hint: returns what the error adds about an unknown name; "" for the nearest name.
    """

    table: Mapping[str, Any]
    hint: Callable[[str], str] = lambda name: ""

    def __str__(self) -> str:
        return f"{_listed(self.table)}, or 'package.module:function'"

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the name is in the table, or the function that it names can be imported."""
        if not isinstance(value, str):
            raise ArgumentError(argument, as_plain(value), f"must be {self}")
        look_up(value, self.table, argument=argument, hint=self.hint)


@dataclasses.dataclass(frozen=True)
class EntryNames:
    """A tuple of different names of entries of a table, or of functions of the user's own."""

    table: Mapping[str, Any]

    def __str__(self) -> str:
        example = next(iter(self.table))
        return f"a tuple of {', '.join(map(repr, self.table))} or 'package.module:function', as in ({example!r},)"

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless each name is in the table, or a function that can be imported."""
        if not is_tuple_of(value, lambda name: isinstance(name, str)):
            raise ArgumentError(argument, as_plain(value), f"must be {self}")
        for name in value:
            look_up(name, self.table, argument=argument)


@dataclasses.dataclass(frozen=True)
class Names:
    """A tuple of names, which may be empty.

    Attributes:
      names: the names that it may contain.
      instead: what the error about another name adds, for some of them.
    """

    names: Collection[str]
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"a tuple of names from {', '.join(self.names)}, as in ({next(iter(self.names))!r},)"

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the value is a tuple of the names."""
        if not is_tuple_of(value, lambda name: isinstance(name, str) and name in self.names):
            raise ArgumentError(argument, as_plain(value), f"must be {self}{self._hint(value)}")

    def _hint(self, value: Any) -> str:
        given = value if _is_tuple(value) else (value,)
        unknown = next((name for name in given if not (isinstance(name, str) and name in self.names)), value)
        if not isinstance(unknown, str):
            return ""
        if unknown in self.names:
            return f"; write ({unknown!r},)"
        return f"; {self.instead[unknown]}" if unknown in self.instead else did_you_mean(unknown, self.names)


@dataclasses.dataclass(frozen=True)
class Options:
    """A group of the options of the entry that another key names.

    Attributes:
      entry_key: the key that names the entry.
      table: the entries by name.
      filled_in: arguments that flaxseg passes itself, which are therefore not options.
    """

    entry_key: str
    table: Mapping[str, Any]
    filled_in: Sequence[str] = ()

    def __str__(self) -> str:
        return f"a group of the options of {self.entry_key}"

    def check(self, argument: str, value: Any) -> None:
        """Raises ArgumentError unless the value is a group of keys."""
        group(str(self)).check(argument, value)


def choice(names: Collection[str], instead: Mapping[str, str] = MappingProxyType({})) -> Rule:
    """Returns the rule for one of several names.

    Args:
      names: the names.
      instead: what the error about another value adds, for some of them.
    """
    return Rule(_listed(names), lambda value: isinstance(value, str) and value in names, names, instead)


def group(words: str) -> Rule:
    """Returns the rule for a group of keys that `words` describe."""
    return Rule(words, lambda value: isinstance(value, Mapping | ConfigDict))


def class_weights(methods: Collection[str]) -> Rule:
    """Returns the rule for 'none', a method's name, or one weight per class."""

    def is_allowed(value: Any) -> bool:
        if isinstance(value, str):
            return value == "none" or value in methods
        return is_tuple_of(value, NON_NEGATIVE.__contains__) and sum(value) in POSITIVE

    listing = ", ".join(map(repr, ("none", *methods)))
    return Rule(f"{listing}, or one number per class, each at least 0 and not all 0", is_allowed, ("none", *methods))


def score(names: Collection[str]) -> Rule:
    """Returns the rule for one of several scores, or the IoU of a class, which only the dataset knows."""

    def is_allowed(value: Any) -> bool:
        return isinstance(value, str) and (value in names or value.startswith(CLASS_IOU))

    return Rule(f"{_listed(names)}, or '{CLASS_IOU}CLASS' for the IoU of a class", is_allowed, names)


def is_tuple_of(value: Any, is_allowed: Callable[[Any], bool]) -> bool:
    """Returns whether a value is a tuple or list with allowed elements only."""
    return _is_tuple(value) and all(map(is_allowed, value))


def as_plain(value: Any) -> Any:
    """Returns a group of keys as a dict, which an error shows on one line; other values unchanged."""
    return value.to_dict() if isinstance(value, ConfigDict) else value


def unusable_parts(key: str, value: Any) -> Iterator[tuple[str, Any, str]]:
    """Yields the parts of a value that no key can have, because they cannot be stored in the config.json of a run.

    Args:
      key: the full name of the key.
      value: its value, which may be a group of keys.

    Yields:
      The full key and the value of each such part, and what is wrong with it, what is allowed, and the remedy.
    """
    if isinstance(value, Mapping | ConfigDict):
        for name, member in value.items():
            if not (isinstance(name, str) and name.isprintable()):
                yield key, value, f"the name {shown(name)} is not a string of printable characters; write another name"
            else:
                yield from unusable_parts(f"{key}.{name}", member)
    elif _is_tuple(value):
        parts = [part for member in value for part in unusable_parts(key, member)][:1]
        yield from ((key, value, problem) for _, _, problem in parts)
    elif isinstance(value, str):
        if problem := _text_problem(value):
            yield key, value, f"{problem}; write it without"
    elif isinstance(value, int):
        if abs(value) > _LARGEST_INTEGER:
            yield key, value, f"integers must be at most {_LARGEST_INTEGER:,} in size"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield key, value, "must be a finite number"
    elif value is not None:
        remedy = unusable_number(value) or "; write the name of a function as 'package.module:function'"
        yield key, value, f"must be made of numbers, strings, True, False and None{remedy}"


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "contains a NUL character, which no name of a file and no option may contain"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains bytes that are not UTF-8"
    return ""


def _listed(names: Collection[str]) -> str:
    return f"one of {', '.join(map(repr, names))}"


def _is_tuple(value: Any) -> bool:
    return isinstance(value, tuple | list)


def _is_pair_of(value: Any, numbers: Range) -> bool:
    return is_tuple_of(value, numbers.__contains__) and len(value) == 2


def _is_multiplier(value: Any) -> bool:
    return _is_tuple(value) and len(value) == 2 and isinstance(value[0], str) and value[1] in POSITIVE


_LARGEST_INTEGER = 2**63 - 1
_LONGEST_NAME = 255
"""Bytes; the limit of all common file systems for one part of a path."""


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and all(
        len(part.encode(errors="surrogatepass")) <= _LONGEST_NAME for part in value.split("/")
    )


STRING = Rule("a string", lambda value: isinstance(value, str))
PATH = Rule("a string; as a path, with names of at most 255 bytes", _is_path)
BOOLEAN = Rule("True or False", lambda value: isinstance(value, bool))

IMAGE_SIZE = Rule(
    "a tuple of 2 integers of at least 1: (height, width), as in (256, 256)", lambda v: _is_pair_of(v, at_least_32(1))
)
ZOOM_RANGE = Rule(
    "a tuple of 2 numbers above 0, the smaller first", lambda v: _is_pair_of(v, POSITIVE) and v[0] <= v[1]
)
STEP_RANGE = Rule(
    "(), or a tuple of 2 integers of at least 1, the smaller first, as in (10, 15)",
    lambda v: is_tuple_of(v, at_least_32(1).__contains__) and (not v or (len(v) == 2 and v[0] <= v[1])),
)
COUNT_OR_REST = Rule("an integer of at least 1, or -1", lambda v: v in at_least(-1) and v != 0)
PATTERNS = Rule(
    "a tuple of patterns, as in ('encoder',)", lambda v: is_tuple_of(v, lambda pattern: isinstance(pattern, str))
)
SEEDS = Rule(
    "a tuple of different integers of at least 0, as in (0, 1, 2)",
    lambda v: is_tuple_of(v, at_least(0).__contains__) and len(set(v)) == len(v),
)
LEARNING_RATES = Rule(
    "a tuple of different numbers of at least 0, as in (0.001, 0.003)",
    lambda v: is_tuple_of(v, NON_NEGATIVE.__contains__) and len(set(v)) == len(v),
)
MULTIPLIERS = Rule(
    "a tuple of pairs of a pattern and a multiplier above 0, as in (('encoder', 0.1),); to leave parameters unchanged, "
    "use optimizer.freeze",
    lambda value: is_tuple_of(value, _is_multiplier),
)
