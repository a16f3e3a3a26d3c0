"""Feature pyramids of networks whose features all have the same stride."""

from collections.abc import Sequence

import jax
from jax import lax

from flaxseg import ops

PATCH = 16
"""The nominal stride of the features of a vision transformer; patches of other sizes count as patches of 16."""


def feature_pyramid(features: Sequence[jax.Array], *, output_stride: int) -> list[jax.Array]:
    """Returns the features of a vision transformer, resized bilinearly to strides of 4, 8, 16 and 32.

    As in ViTDet (Li et al. 2022, https://arxiv.org/abs/2203.16527), but without parameters, so that it can be used with
    a frozen transformer. With patches of `p` pixels, the strides are 4, 8, 16 and 32 times `p / 16`.

    Args:
      features: an image, and up to four maps [B, h, w, C] at 1 / 16 of its size, of which h and w are multiples of
        `output_stride / 16`.
      output_stride: the smallest features are at 1 / output_stride of the image's size.

    Returns:
      The image, a map without channels at 1/2 of its size, and the maps at 1/4, 1/8, ...
    """
    image, *maps = features
    pyramid = []
    for level, x in enumerate(maps, 2):
        stride = min(2**level, output_stride)
        pyramid.append(ops.resize_bilinear(x, (x.shape[1] * PATCH // stride, x.shape[2] * PATCH // stride)))
    # Made by joining, because ONNX cannot reshape arrays without elements, and jax2onnx no symbolic sizes from nothing.
    empty = lax.concatenate([pyramid[0][..., :0]] * 2, 1)
    return [image, lax.concatenate([empty] * 2, 2), *pyramid]
