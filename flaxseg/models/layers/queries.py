"""Queries that each predict a class and a mask, as the logits of every pixel."""

import jax
import jax.numpy as jnp

from flaxseg import ops

FLOOR = 1e-6
"""Added to the score of each class before the logarithm."""


def pixel_logits(masks: jax.Array, classes: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the logits of each class in each pixel, float32[B, H, W, K].

    The score of a class in a pixel is the sum over the queries of the class's probability times that of the pixel being
    in the query's mask, as in MaskFormer (Cheng et al. 2021, https://arxiv.org/abs/2107.06278). The logits are
    `log(score + 1e-6)`: their softmax is each class's fraction of the scores, so that any loss of pixels trains them.

    Args:
      masks: the logits of the queries' masks, float[B, h, w, Q], which are resized to the image.
      classes: the logits of the queries' classes, float[B, Q, K + 1]; the last class is that of queries without a mask.
      size: height and width of the image, H and W.
    """
    inside = jax.nn.sigmoid(ops.resize_bilinear(masks.astype(jnp.float32), size))
    probabilities = jax.nn.softmax(classes.astype(jnp.float32))[..., :-1]
    return jnp.log(jnp.einsum("bhwq,bqk->bhwk", inside, probabilities) + FLOOR)
