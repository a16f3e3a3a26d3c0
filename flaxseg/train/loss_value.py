"""Calls a loss function, and checks what it gets and returns; under jit this runs while a step is traced, only."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from flaxseg.errors import ArgumentError
from flaxseg.losses import LossFn
from flaxseg.losses.terms import is_scalar, loss_name, returned
from flaxseg.shapes import check_label


def loss_value(
    loss_fn: LossFn, logits: jax.Array, label: jax.Array, auxiliary_logits: Sequence[jax.Array] = ()
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the total and the parts of a loss.

    Args:
      loss_fn: see `LossFn`.
      logits: float[B, H, W, K].
      label: integer[B, H, W].
      auxiliary_logits: the logits of the auxiliary heads.

    Raises:
      ArgumentError: the labels do not fit the logits, so that a loss might broadcast them, or `loss_fn` is no function
        or does not return (total, parts).
    """
    if not callable(loss_fn):
        raise ArgumentError("loss_fn", loss_fn, f"must be a function; write {_sum_of(loss_fn)}")
    check_label(label, tuple(logits.shape[:-1]), logits=logits)
    _check_arguments(loss_fn, len(auxiliary_logits))
    found: Any = loss_fn(logits, label, *auxiliary_logits)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise ArgumentError(
            "loss_fn",
            loss_fn,
            f"returned {returned(found)}, but must return (total, parts), a scalar and a dict of scalars; write "
            f"{_sum_of(loss_fn)} for a function that returns a scalar",
        )
    total, parts = found
    for name, value in {"the total": total, **{f"parts[{name!r}]": part for name, part in parts.items()}}.items():
        if not is_scalar(value):
            raise ArgumentError("loss_fn", loss_fn, f"{name} is {returned(value)}, but must be a scalar; take its mean")
    return total, dict(parts)


def _check_arguments(loss_fn: LossFn, heads: int) -> None:
    """Raises ArgumentError unless a loss can be called with logits, labels, and the logits of auxiliary heads."""
    try:
        signature = inspect.signature(loss_fn)
    except (TypeError, ValueError):  # A built-in function has no signature.
        return
    try:
        signature.bind(*range(2 + heads))
    except TypeError as error:
        auxiliary = f" and the logits of {heads} auxiliary head{'s' if heads > 1 else ''}" if heads else ""
        raise ArgumentError(
            "loss_fn",
            loss_fn,
            f"cannot be called with logits, labels{auxiliary} ({error}); write {_sum_of(loss_fn)} for a function of "
            "logits and labels that returns a scalar",
        ) from error


def _sum_of(loss_fn: Any) -> str:
    if callable(loss_fn):
        return f"loss_fn=weighted_sum({{{loss_name(loss_fn)}: 1.0}})"
    names = [loss_fn] if isinstance(loss_fn, str) else list(loss_fn) if isinstance(loss_fn, list | tuple) else []
    if isinstance(loss_fn, Mapping):
        return f"loss_fn=weighted_sum({loss_fn!r})"
    entries = ", ".join(f"{name!r}: 1.0" if isinstance(name, str) else f"{loss_name(name)}: 1.0" for name in names)
    return f"loss_fn=weighted_sum({{{entries or repr('cross_entropy') + ': 1.0'}}})"
