"""Losses by name, and their weighted sum. All take logits and labels, and exclude ignored pixels exactly."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from flaxseg.errors import NON_NEGATIVE, ArgumentError, unknown_attribute
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
from flaxseg.losses.pixels import check_arrays
from flaxseg.losses.poly import poly_cross_entropy
from flaxseg.losses.terms import make_terms
from flaxseg.losses.tversky import focal_tversky, tversky
from flaxseg.registry import option_names

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
"""Functions (logits float[B, H, W, K], label integer[B, H, W], *, options) -> float32 scalar."""

LossFn = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
"""A function `loss_fn(logits, label, *auxiliary_logits) -> (total, parts)`, such as `weighted_sum` returns.

`logits` and each of `auxiliary_logits`, the outputs of a network's auxiliary heads in training, are
float[B, H, W, K]; `label` is integer[B, H, W]. `total` is the float32 scalar to minimize, and `parts` maps names to
the float32 scalars that it consists of, before weighting. A loss for networks without auxiliary heads may take
`logits` and `label` only.
"""


def weighted_sum(
    weights: Mapping[Any, float | jax.Array],
    options: Mapping[Any, Mapping[str, Any]] | None = None,
    *,
    class_weights: Sequence[float] | None = None,
    auxiliary_weight: float = 0.4,
) -> LossFn:
    r"""Returns a loss function that computes a weighted sum of losses by name.

    .. math:: L = \sum_n w_n L_n(x, y) + a \sum_j \sum_n w_n L_n(x_j, y)

    with logits x, label y, logits x_j of the auxiliary heads and the auxiliary weight a.

    Args:
      weights: the weight of each loss. Keys are names of `LOSSES`, `package.module:function`, or functions themselves;
        a function of your own has the signature of those of `LOSSES`, and its `__name__` is its name in `parts`. Losses
        of weight 0 are not computed. Weights may also be scalar arrays, such as arguments of a jitted function; then
        all losses are computed, and those of weight 0 contribute neither to the sum nor to its gradient, even where
        they are not finite.
      options: for the key of a loss in `weights`, its keyword arguments.
      class_weights: one weight per class, for every loss that takes `class_weights` and has none in its options; None
        weights all classes alike.
      auxiliary_weight: the weight of the sum of the auxiliary heads' losses, at least 0. 0.4 is the weight of PSPNet
        (Zhao et al. 2017, https://arxiv.org/abs/1612.01105).

    Returns:
      A `LossFn`. Its `parts` hold each loss of the main logits by name and, with auxiliary logits, the sum of the
      auxiliary heads' weighted losses as `auxiliary`.

    Raises:
      ArgumentError: `weights` is no mapping, an unknown name or option, a negative `auxiliary_weight`, or class weights
        that no loss takes; and when the returned function is called, labels that do not fit the logits, options or
        class weights that are out of range or do not fit the logits, and a loss that returns no scalar.
    """
    NON_NEGATIVE.check("auxiliary_weight", auxiliary_weight)
    terms = make_terms(weights, options, LOSSES)
    if class_weights is not None:
        class_weights = tuple(class_weights)
        weighted = [term for term in terms if "class_weights" in option_names(term.function)]
        if not weighted:
            raise ArgumentError(
                "class_weights",
                class_weights,
                f"none of the losses {', '.join(term.name for term in terms)} takes class weights; give none, or add a "
                "loss that takes them, such as cross_entropy",
            )
        for term in weighted:
            term.options.setdefault("class_weights", class_weights)

    def head_loss(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        # Before any loss: the weights are not what is wrong if the last axis is not the classes, and a loss of the
        # user's own might broadcast the labels.
        check_arrays(logits, label)
        if class_weights is not None and len(class_weights) != logits.shape[-1]:
            raise ArgumentError(
                "class_weights",
                class_weights,
                f"{len(class_weights)} weights for {logits.shape[-1]} classes; give one weight per class",
            )
        parts = {term.name: term(logits, label) for term in terms}
        weighted = (term.weighted(parts[term.name]) for term in terms)
        return sum(weighted, start=0.0), parts  # type: ignore[return-value]

    def loss_fn(
        logits: jax.Array, label: jax.Array, *auxiliary_logits: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, parts = head_loss(logits, label)
        if auxiliary_logits:
            auxiliary_losses = [head_loss(auxiliary, label)[0] for auxiliary in auxiliary_logits]
            parts = {**parts, "auxiliary": jnp.stack(auxiliary_losses).sum()}
            total = total + auxiliary_weight * parts["auxiliary"]
        return total, parts

    return loss_fn


def expressions() -> dict[str, str]:
    """Returns how each loss of LOSSES is called, by name, for error messages."""
    return {name: f"flaxseg.losses.{name}(logits, label)" for name in LOSSES}


if not TYPE_CHECKING:  # A type checker would otherwise accept any name.

    def __getattr__(name: str) -> Any:
        """Names the nearest loss in the error about one that does not exist, such as `DiceLoss`."""
        raise unknown_attribute(__name__, name, expressions())
