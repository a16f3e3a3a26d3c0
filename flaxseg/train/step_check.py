"""The check of a training step on the device: are its input, loss, gradient and update finite, in this order?"""

from typing import Any

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from flax import struct

KINDS = ("input", "loss", "gradient", "update")
"""What can be the first to be non-finite in a step, in the order of its computation."""

NOT_TAKEN = len(KINDS) + 1
"""The `code` of a step that was not taken because the step before it was not finite."""


MEANING = {
    "input": "an image is not finite after augmentation",
    "loss": "the loss is not finite, although every image is",
    "gradient": "the gradient is not finite, although the loss is",
    "update": "the update of the parameters or of the batch statistics is not finite, although the gradient is",
}
"""What each of KINDS means, as a clause."""

_REMEDY = {
    "loss": "look for a label that is neither a class nor 255, and for images in another range than 0..255",
    "gradient": "use a lower learning rate",
    "update": "use a lower learning rate",
}


@struct.dataclass
class StepCheck(clu_metrics.Metric):
    """What a training step found; only a step with `code` 0 changes the parameters."""

    code: jax.Array
    """int32 scalar: 0 if all is finite; N if `KINDS[N - 1]` is the first that is not; NOT_TAKEN."""
    finite_images: jax.Array
    """bool[B]: whether each image is finite after augmentation."""
    skipped: jax.Array
    """int32 scalar: number of steps that the run has skipped so far, this one included."""

    def describe(self) -> str:
        """Returns what was the first to be non-finite, and the remedy, in a sentence; "" if all is finite.

        Waits for the device.
        """
        code = int(self.code)
        if code == 0:
            return ""
        if code == NOT_TAKEN:
            return "the step was not taken, because one before it was not finite"
        kind = KINDS[code - 1]
        return f"{MEANING[kind]}, so the step was not taken" + (f"; {_REMEDY[kind]}" if kind in _REMEDY else "")

    def merge(self, other: "StepCheck") -> "StepCheck":  # type: ignore[override]
        """Returns the check of the later step, which has counted all skipped steps."""
        return other


def check_step(
    image: Any, loss: jax.Array, grad_norm: jax.Array, update_norm: jax.Array, batch_stats: Any
) -> StepCheck:
    """Returns what is the first to be non-finite in a step; call it under jit.

    A global norm that is finite proves that every element is. One that overflows, beyond 1.8e19 for float32, counts as
    not finite even where every element is: Adam's second moments would become infinite, and clipping would turn the
    gradient into 0.

    Args:
      image: [B, H, W, C], after augmentation, or a tree of such arrays, the features of images; integers are always
        finite.
      loss: scalar.
      grad_norm: scalar, the global norm of the gradient.
      update_norm: scalar, the global norm of the update of the parameters.
      batch_stats: the updated batch statistics, which belong to the update.
    """
    images = jnp.stack([_finite_examples(leaf) for leaf in jax.tree.leaves(image)]).all(0)
    statistics = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(batch_stats)]
    finite = (
        images.all(),
        jnp.isfinite(loss),
        jnp.isfinite(grad_norm),
        jnp.stack([jnp.isfinite(update_norm), *statistics]).all(),
    )
    bad = ~jnp.stack(finite)
    code = jnp.where(bad.any(), 1 + bad.argmax(), 0).astype(jnp.int32)
    return StepCheck(code=code, finite_images=images, skipped=jnp.zeros((), jnp.int32))


def _finite_examples(x: jax.Array) -> jax.Array:
    """Returns whether each example of [B, ...] is finite, bool[B]."""
    is_inexact = jnp.issubdtype(x.dtype, jnp.inexact)
    return jnp.isfinite(x).all(tuple(range(1, x.ndim))) if is_inexact else jnp.ones(len(x), bool)


def select(condition: jax.Array, new: Any, old: Any) -> Any:
    """Returns the first of two trees of arrays where a scalar condition holds, and else the second."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
