"""Arguments that only models have: their forms, and checks that raise an ArgumentError naming the argument."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxseg.errors import FINITE, ArgumentError

ChannelValues = float | tuple[float, ...]
"""One value for all channels of an image, or one value for each."""

NormalizationValues = float | Sequence[float] | None
"""Mean or standard deviation of images as an argument; None: the model's default."""


def check_channels(argument: str, value: Any, *, count: int) -> None:
    """Raises ArgumentError unless `value` is a sequence of `count` integers of at least 1."""
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(numbers) != count or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
        raise ArgumentError(argument, value, f"must be {count} integers of at least 1")


def plain_channel_values(values: Any) -> ChannelValues:
    """Returns a network's mean or standard deviation as Python numbers; that of a user's network may be an array."""
    return tuple(map(float, values)) if np.ndim(values) else float(values)


def channel_values(argument: str, value: float | Sequence[float], *, positive: bool = False) -> ChannelValues:
    """Returns `value` as a float, or as a tuple of one float per channel.

    Args:
      argument: the argument's name, for the error.
      value: a number, or a sequence of numbers.
      positive: require numbers above 0.

    Raises:
      ArgumentError: a number is not finite, the sequence is empty, or, with `positive`, a number is not above 0.
    """
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not numbers:
        raise ArgumentError(argument, value, "must be a number, or one number for each channel")
    for number in numbers:
        FINITE.check(argument, number)
        if positive and number <= 0:
            raise ArgumentError(argument, value, "must be above 0")
    return tuple(map(float, numbers)) if isinstance(value, Sequence) else float(value)


def check_dtype(argument: str, value: Any) -> None:
    """Raises ArgumentError unless `value` is float32 or bfloat16, the types that models compute in."""
    try:
        known = jnp.dtype(value) in (jnp.float32, jnp.bfloat16)
    except TypeError:
        known = False
    if not known:
        raise ArgumentError(argument, value, "must be float32 or bfloat16")
