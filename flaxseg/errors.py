"""Errors caused by a user's input, each with one clear message, and the checks of arguments that raise them."""

import dataclasses
import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any


class FlaxsegError(ValueError):
    """Something given to flaxseg cannot be used; the message names it, what is allowed, and the remedy."""


class ArgumentError(FlaxsegError):
    """An argument of a function is wrong; the message is `ARGUMENT = VALUE: PROBLEM`.

    Attributes:
      argument: its name, such as `dropout`, or a path such as `options.dice.smooth`.
      value: what was given.
      problem: what is wrong with the value, what is allowed, and the remedy.
    """

    def __init__(self, argument: str, value: Any, problem: str) -> None:
        super().__init__(f"{argument} = {shown(value)}: {problem}")
        self.argument = argument
        self.value = value
        self.problem = problem

    def under(self, group: str) -> "ArgumentError":
        """Returns the same error about `group.ARGUMENT`, for a caller that takes it as a member of `group`."""
        return ArgumentError(f"{group}.{self.argument}", self.value, self.problem)


class ConfigError(FlaxsegError):
    """The configuration is wrong; the message lists every error with its key."""


class DataError(FlaxsegError):
    """A dataset, image or mask cannot be used; the message names the file or folder.

    Attributes:
      options: options of the dataset, by name, with which it can probably be used; empty if there are none.
      splits: the splits that its files define with these options; empty if they define none, or are unknown.
    """

    def __init__(self, message: str, *, options: Mapping[str, Any] | None = None, splits: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.options = dict(options or {})
        self.splits = tuple(splits)


class ChangedFile(DataError):
    """A file of the dataset has changed since the run first read it."""


class UnknownValues(DataError):
    """A mask contains values that are neither a class nor ignored.

    Attributes:
      fact: the message without the remedy.
      counts: the number of pixels of each value in the mask.
      values: the mask value of each class, or a tuple of the values that belong to it.
      ignore_values: the mask values of ignored pixels.
    """

    def __init__(
        self,
        fact: str,
        *,
        remedy: str = "",
        counts: Mapping[int, int],
        values: Sequence[int | tuple[int, ...]],
        ignore_values: Sequence[int],
    ) -> None:
        super().__init__(fact + remedy)
        self.fact = fact
        self.counts = dict(counts)
        self.values = tuple(values)
        self.ignore_values = tuple(ignore_values)


class UnknownColors(DataError):
    """A mask contains colors that are neither a class nor ignored.

    Attributes:
      fact: the message without the remedy.
      counts: the number of pixels of each of the most frequent of these colors.
      colors: the color of each class; empty if none were given.
      occurring: those of `colors` that occur in the mask.
      ignore_colors: the colors of ignored pixels.
    """

    def __init__(
        self,
        fact: str,
        *,
        remedy: str = "",
        counts: Mapping[tuple[int, int, int], int],
        colors: Sequence[tuple[int, int, int]] = (),
        occurring: Iterable[tuple[int, int, int]] = (),
        ignore_colors: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        super().__init__(fact + remedy)
        self.fact = fact
        self.counts = dict(counts)
        self.colors = tuple(colors)
        self.occurring = frozenset(occurring)
        self.ignore_colors = tuple(ignore_colors)


class MissingMasks(DataError):
    """None of the images of a split has a mask, so that it can be predicted, but neither trained nor evaluated on."""


class CheckpointError(FlaxsegError):
    """A checkpoint or working directory does not fit the run; the message lists the differences."""


class TrainingError(FlaxsegError):
    """Training cannot continue; the message names the step."""


class WeightsError(FlaxsegError):
    """A weights file cannot be used; the message names it."""


class ExportError(FlaxsegError):
    """A network cannot be exported, or an exported file cannot be used; the message names the file or the format."""


_LARGEST_FLOAT32 = 3.4028234663852886e38

_MAX_SHOWN = 200
"""Characters; class weights or a path may be long, but more than this hides the rest of a message."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that an argument may be; neither infinity, NaN nor a bool is ever in a range.

    Nor is a number that is infinite as a float32, or an integer of more than 64 bits.

    Attributes:
      low: the smallest number allowed.
      high: the largest number allowed.
      above: numbers must be above `low`, not equal to it.
      below: numbers must be below `high`, not equal to it.
      integer: allow integers only.
      limit: the largest absolute value of an integer, where it follows from a data type and not from the meaning.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    integer: bool = False
    limit: int = 2**63 - 1

    def __contains__(self, value: Any) -> bool:
        if not is_number(value) or (self.integer and not isinstance(value, int)):
            return False
        # False for NaN and infinity, too.
        if not abs(value) <= self._largest:
            return False
        return self.low <= value <= self.high and not (
            (self.above and value == self.low) or (self.below and value == self.high)
        )

    def __str__(self) -> str:
        kind = "an integer" if self.integer else "a number"
        if not (self.above or self.below) and math.isfinite(self.low) and math.isfinite(self.high):
            return f"{kind} from {self.low:g} to {self.high:g}"
        low = f"{'above' if self.above else 'of at least'} {self.low:g}" if math.isfinite(self.low) else ""
        high = f"{'below' if self.below else 'at most'} {self.high:g}" if math.isfinite(self.high) else ""
        bounds = " and ".join(filter(None, (low, high)))
        return f"{kind} {bounds}" if bounds else f"a finite {kind.split()[1]}"

    def check(self, argument: str, value: Any) -> None:
        """Checks that a value is in the range.

        Raises:
          ArgumentError: it is not.
        """
        if value not in self:
            is_large = is_number(value) and self._largest < abs(value) < math.inf
            largest = f"{self._largest:,}" if self.integer else f"{self._largest:.2g}"
            limit = f", and at most {largest} in size" if is_large else ""
            raise ArgumentError(argument, value, f"must be {self}{limit}{unusable_number(value)}")

    @property
    def _largest(self) -> float:
        return self.limit if self.integer else _LARGEST_FLOAT32


FINITE = Range()
NON_NEGATIVE = Range(0)
POSITIVE = Range(0, above=True)
FRACTION = Range(0, 1)
DROPOUT_RATE = DECAY_RATE = Range(0, 1, below=True)


def check_integer(argument: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises ArgumentError unless `value` is an integer of at least `low` and, if given, at most `high`."""
    Range(low, math.inf if high is None else high, integer=True).check(argument, value)


def check_boolean(argument: str, value: Any) -> None:
    """Raises ArgumentError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(argument, value, "must be True or False")


def check_choice(argument: str, value: Any, allowed: Collection[str]) -> None:
    """Raises ArgumentError unless `value` is one of `allowed`; the message names the nearest."""
    if value not in allowed:
        listing = ", ".join(map(repr, allowed))
        raise ArgumentError(argument, value, f"must be one of {listing}{did_you_mean(str(value), allowed)}")


def number_of(count: int, noun: str) -> str:
    """Returns a number with its noun, which takes an s unless the number is 1: `1 problem`, `2,000 problems`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def reason(error: BaseException) -> str:
    """Returns the message of an exception on one line, shortened to 200 characters; its type if it has no message."""
    # Not all of a long message is split, because a damaged file may make it very long.
    text = " ".join(str(error)[: 10 * _MAX_SHOWN].split())
    return (text[: _MAX_SHOWN - 3] + "..." if len(text) > _MAX_SHOWN else text) or type(error).__name__


def shown(value: Any) -> str:
    """Returns a value as it is written in Python, on one line and shortened to 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of more than 4,300 digits.
        text = f"<{type(value).__name__} with more than 4,300 digits>"
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 20]}...{text[-17:]}"


def unusable_number(value: Any) -> str:
    """Returns what is wrong with a number, or with one in a tuple, whatever its range is: a clause, or nothing."""
    if isinstance(value, tuple | list):
        return next(filter(None, map(unusable_number, value)), "")
    if type(value).__module__ == "numpy" and not is_number(value):
        return f"; a NumPy {type(value).__name__} is none: convert it with .item() or .tolist()"
    if isinstance(value, float) and not math.isfinite(value):
        return ", and finite"
    return ""


def is_number(value: Any) -> bool:
    """Returns whether a value is an int or a float; a bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the candidate nearest to a name, or nothing when none is near."""
    near = nearest(name, candidates)
    return f"; did you mean {near!r}?" if near else ""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Returns the candidate nearest to a name; "" when none is near."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=0.55)
    return by_lower_case[near[0]] if near else ""


def unknown_attribute(module: str, name: str, expressions: Mapping[str, str]) -> AttributeError:
    """Returns the error about an attribute that a module lacks, with the expression for the nearest name.

    Args:
      module: the name of the module.
      name: the attribute, perhaps a name that a class has elsewhere, such as `DiceLoss` or `DeepLabV3Plus`.
      expressions: what to write instead, by name.
    """
    message = f"module {module!r} has no attribute {name!r}"
    if not name.startswith("_"):
        plain = {known.replace("_", "").lower(): known for known in expressions}
        near = nearest(name.replace("_", "").lower().removesuffix("loss"), plain)
        message += f"; did you mean {expressions[plain[near]]}?" if near else ""
    return AttributeError(message)
