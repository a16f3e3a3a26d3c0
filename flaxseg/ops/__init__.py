"""Array operations in forms that XLA compiles to fast code: pure functions of NHWC images and HWIO kernels."""

from flaxseg.ops.activation import gelu
from flaxseg.ops.bicubic import resize_bicubic
from flaxseg.ops.convolution import conv
from flaxseg.ops.distance import squared_distance
from flaxseg.ops.morphology import dilation, erosion
from flaxseg.ops.platform import plain_forms
from flaxseg.ops.pooling import adaptive_average_pool, average_pool, max_pool
from flaxseg.ops.product import product
from flaxseg.ops.resize import resize_bilinear, resize_bilinear_ragged, resize_nearest
from flaxseg.ops.sample import sample_bilinear, sample_nearest
from flaxseg.ops.transposed_convolution import conv_transpose

__all__ = [
    "adaptive_average_pool",
    "average_pool",
    "conv",
    "conv_transpose",
    "dilation",
    "erosion",
    "gelu",
    "max_pool",
    "plain_forms",
    "product",
    "resize_bicubic",
    "resize_bilinear",
    "resize_bilinear_ragged",
    "resize_nearest",
    "sample_bilinear",
    "sample_nearest",
    "squared_distance",
]
