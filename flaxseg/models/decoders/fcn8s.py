"""FCN-8s (Long et al. 2015, https://arxiv.org/abs/1411.4038) with any encoder; the paper's is VGG-16."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, ArgumentError, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import Conv, ConvTranspose


class FCN8sDecoder(Decoder):
    """Logits of the features at 1/32, 1/16 and 1/8 of the image, added by learned upsampling.

    Convolutions have SAME padding; the paper pads the image by 100 pixels and crops the logits. All feature maps with
    one channel per class are computed in float32.

    Attributes:
      num_classes: number of classes.
      width: channels of the two convolutions that replace the classifier's fully connected layers.
      dropout: dropout rate after each of these two convolutions.
      unpooled_features: the encoder's features are taken before each pooling; the paper uses the pooled ones.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    num_classes: int
    width: int = 4096
    dropout: float = 0.5
    unpooled_features: bool = False
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("width", self.width, 1)
        DROPOUT_RATE.check("dropout", self.dropout)
        if len(channels) != 5:
            raise ArgumentError("encoder_depth", len(channels), "FCN-8s needs 5, as it uses the feature at 1/32")

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns logits, float32[B, H, W, num_classes]."""
        eighth, sixteenth = map(ops.max_pool, features[2:4]) if self.unpooled_features else features[3:5]
        x = features[5]
        for name, kernel_size in (("fc6", 7), ("fc7", 1)):
            x = nn.relu(Conv(self.width, kernel_size, dtype=self.dtype, name=name)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        scores = self._up(self._scores(x, 32), 2, 16) + self._scores(sixteenth, 16)
        scores = self._up(scores, 2, 8) + self._scores(eighth, 8)
        return self._up(scores, 8, 1)

    def _scores(self, x: jax.Array, stride: int) -> jax.Array:
        return Conv(self.num_classes, 1, name=f"score{stride}")(x)

    def _up(self, scores: jax.Array, factor: int, stride: int) -> jax.Array:
        up = ConvTranspose(
            self.num_classes,
            2 * factor,
            factor,
            use_bias=False,
            kernel_init=bilinear_initializer,
            name=f"up_to{stride}",
        )
        return up(scores)


def bilinear_initializer(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Returns the kernel, of the given shape, of a transposed convolution that upsamples bilinearly.

    Args:
      key: not used; initializers have this argument.
      shape: (2 * n, 2 * n, C, C), for a stride of n.
      dtype: the kernel's type.
    """
    del key
    size = shape[0]
    along = 1 - np.abs(np.arange(size) - (size - 1) / 2) / (size / 2)
    return jnp.asarray(along[:, None, None, None] * along[:, None, None] * np.eye(shape[2], shape[3]), dtype)
