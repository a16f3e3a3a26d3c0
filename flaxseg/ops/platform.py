"""The choice between forms of an operation by the platform that runs it."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax

_plain = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_forms() -> Iterator[None]:
    """Makes every operation traced in the `with` block use its one form for all platforms.

    Outside of it, some operations have a faster form for the CPU, and the program chooses when it is compiled. Formats
    that have no such choice, such as ONNX, need the plain form. Functions that `jax.jit` has already traced keep the
    form that they were traced with.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def uses_plain_forms() -> bool:
    """Returns whether the caller is traced in a `with plain_forms()` block."""
    return _plain.get()


def by_platform(*operands: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """Returns `cpu(*operands)` in programs compiled for the CPU, and `default(*operands)` in others.

    In a `with plain_forms()` block it is `default(*operands)` in all of them. The two functions compute the same.
    """
    if uses_plain_forms():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)
