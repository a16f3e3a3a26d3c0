"""Checks that the models' constructors share: each raises a ConfigError that names the argument."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import jax.numpy as jnp

from flaxseg.errors import ConfigError, did_you_mean

ChannelValues = float | tuple[float, ...]


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raises ConfigError unless `value` is one of `allowed`."""
    if value in allowed:
        return
    hint = did_you_mean(str(value), allowed)
    raise ConfigError(f"{name} = {value!r}: allowed are {', '.join(map(repr, allowed))}{hint}")


def check_usable(name: str, value: Any, refused: Collection[str], *, why: str) -> None:
    """Raises ConfigError if `value` is one of `refused`, which are otherwise allowed but not here."""
    if value in refused:
        raise ConfigError(f"{name} = {value!r}: none of {', '.join(refused)} can be used here: {why}")


def check_boolean(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} = {value!r}: must be True or False")


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises ConfigError unless `value` is an integer of at least `low` and, if given, at most `high`."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= (value if high is None else high):
        return
    raise ConfigError(f"{name} = {value!r}: must be an integer {_range(low, high)}")


def check_widths(name: str, value: Any, *, count: int) -> tuple[int, ...]:
    """`value` as a tuple.

    Raises:
      ConfigError: it is not `count` integers of at least 1.
    """
    widths = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(widths) != count or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
        raise ConfigError(f"{name} = {value!r}: must be {count} integers of at least 1")
    return widths


def check_rate(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is a dropout rate: at least 0 and less than 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} = {value!r}: must be a number of at least 0 and less than 1")


def check_number(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is a finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise ConfigError(f"{name} = {value!r}: must be a finite number")


def channel_values(name: str, value: float | Sequence[float], *, positive: bool = False) -> ChannelValues:
    """`value` as a float, or as a tuple of one float a channel.

    Raises:
      ConfigError: something in it is not a finite number, it is empty, or, with `positive`, not above 0.
    """
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not numbers:
        raise ConfigError(f"{name} = {value!r}: must be a number, or one number for each channel")
    for number in numbers:
        check_number(name, number)
        if positive and number <= 0:
            raise ConfigError(f"{name} = {value!r}: must be above 0")
    return tuple(map(float, numbers)) if isinstance(value, Sequence) else float(value)


def check_dtype(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is float32 or bfloat16, the types that models compute in."""
    try:
        known = jnp.dtype(value) in (jnp.float32, jnp.bfloat16)
    except TypeError:
        known = False
    if not known:
        raise ConfigError(f"{name} = {value!r}: must be float32 or bfloat16")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(low: int, high: int | None) -> str:
    return f"of at least {low}" if high is None else f"between {low} and {high}"
