"""What decoders whose queries predict masks have in common."""

import jax
import jax.numpy as jnp

from flaxseg import ops

SMALLEST_SCORE = 1e-10
"""Smaller scores have the logit of this one."""


def query_logits(classes: jax.Array, masks: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the logits of the pixels from the classes and masks that queries predict.

    The score of a class in a pixel is the sum over the queries of the class's probability times the probability that
    the pixel is in the mask, as in MaskFormer (Cheng et al. 2021, https://arxiv.org/abs/2107.06278). The logits are the
    logarithms of the scores, so that their softmax is each class's fraction of the scores, and any loss of pixels
    trains the queries.

    Args:
      classes: logits of each query's class, [B, Q, K + 1]; the last one stands for no mask.
      masks: logits of each query's mask, [B, h, w, Q], which are resized first.
      size: height and width of the logits.

    Returns:
      [B, *size, K].
    """
    resized = ops.resize_bilinear(masks, size)
    scores = jnp.einsum("bhwq,bqk->bhwk", jax.nn.sigmoid(resized), jax.nn.softmax(classes)[..., :-1])
    return jnp.log(jnp.maximum(scores, SMALLEST_SCORE))
