"""Primitives that XLA runs fast: pure functions of arrays, NHWC pictures and HWIO kernels."""

from flaxseg.ops.convolution import conv, conv_transpose
from flaxseg.ops.pooling import adaptive_average_pool, max_pool
from flaxseg.ops.resize import resize_bilinear, resize_bilinear_ragged, resize_nearest
from flaxseg.ops.sample import sample_bilinear, sample_nearest

__all__ = [
    "adaptive_average_pool",
    "conv",
    "conv_transpose",
    "max_pool",
    "resize_bilinear",
    "resize_bilinear_ragged",
    "resize_nearest",
    "sample_bilinear",
    "sample_nearest",
]
