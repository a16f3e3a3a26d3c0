"""Losses by name, and their weighted sum. All take logits and labels and leave out ignored pixels exactly."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from flaxseg.errors import ConfigError
from flaxseg.lookup import look_up
from flaxseg.losses.cross_entropy import cross_entropy

__all__ = ["LOSSES", "LossFn", "cross_entropy", "weighted_sum"]

LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
}

LossFn = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
"""(logits, label) -> (total, each loss by name before weighting)."""


def weighted_sum(weights: Mapping[str, float], options: Mapping[str, Mapping[str, Any]] | None = None) -> LossFn:
    """Returns a loss that is the weighted sum of named ones.

    Args:
      weights: for each name (of LOSSES, or `package.module:function`) its weight; 0 leaves a loss out.
      options: for a name, its keyword arguments.

    Raises:
      ConfigError: an unknown name; and from the function that is returned, options that do not fit the logits.
    """
    options = options or {}
    terms = [
        (name, weight, look_up(name, LOSSES, key="config.loss"), dict(options.get(name, {})))
        for name, weight in weights.items()
        if weight
    ]

    def loss_fn(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = {}
        for name, _, function, keywords in terms:
            try:
                parts[name] = function(logits, label, **keywords)
            except ConfigError as error:
                raise ConfigError(f"config.loss_options.{name}.{error}") from error
        return sum((weight * parts[name] for name, weight, _, _ in terms), start=0.0), parts  # type: ignore[return-value]

    return loss_fn
