"""Losses by name, and their weighted sum. All take logits and labels and leave out ignored pixels exactly."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from flaxseg.errors import ConfigError
from flaxseg.losses.binary_cross_entropy import binary_cross_entropy
from flaxseg.losses.boundary import boundary
from flaxseg.losses.cldice import cldice
from flaxseg.losses.cross_entropy import cross_entropy
from flaxseg.losses.dice import dice, generalized_dice, log_cosh_dice
from flaxseg.losses.focal import binary_focal, focal
from flaxseg.losses.jaccard import jaccard, soft_iou
from flaxseg.losses.lovasz import lovasz_hinge, lovasz_softmax
from flaxseg.losses.mcc import mcc
from flaxseg.losses.ohem import ohem_cross_entropy
from flaxseg.losses.poly import poly_cross_entropy
from flaxseg.losses.tversky import focal_tversky, tversky
from flaxseg.registry import look_up

__all__ = [
    "LOSSES",
    "LossFn",
    "binary_cross_entropy",
    "binary_focal",
    "boundary",
    "cldice",
    "cross_entropy",
    "dice",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "jaccard",
    "log_cosh_dice",
    "lovasz_hinge",
    "lovasz_softmax",
    "mcc",
    "ohem_cross_entropy",
    "poly_cross_entropy",
    "soft_iou",
    "tversky",
    "weighted_sum",
]

LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
    "binary_focal": binary_focal,
    "ohem_cross_entropy": ohem_cross_entropy,
    "poly_cross_entropy": poly_cross_entropy,
    "dice": dice,
    "generalized_dice": generalized_dice,
    "log_cosh_dice": log_cosh_dice,
    "jaccard": jaccard,
    "soft_iou": soft_iou,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "mcc": mcc,
    "lovasz_softmax": lovasz_softmax,
    "lovasz_hinge": lovasz_hinge,
    "boundary": boundary,
    "cldice": cldice,
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
        (name, weight, look_up(name, LOSSES, argument="config.loss"), dict(options.get(name, {})))
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
