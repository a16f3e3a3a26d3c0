"""FCN-8s (Long et al. 2015, https://arxiv.org/abs/1411.4038): a classifier made convolutional, and two finer scores."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg import ops
from flaxseg.models.arguments import check_integer, check_rate
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import Conv, ConvTranspose


def fcn8s(
    *,
    num_classes: int,
    encoder: str = "vgg16",
    width: int = 4096,
    dropout: float = 0.5,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """FCN-8s: scores of each class at 1/32, 1/16 and 1/8 of the picture, added up by learned up-sampling.

    Convolutions have SAME padding, where the paper's picture was padded by 100 pixels and the scores cut out.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS; the paper's is "vgg16".
      width: channels of the two convolutions that were the classifier's fully connected layers.
      dropout: rate after each of these.
      remat: as of `encoder_decoder`; so are the others.
      image_classes: see there.
      mean: see there.
      std: see there.
      dtype: see there.

    Raises:
      ConfigError: an argument is out of range, or the encoder unknown.
    """
    check_integer("width", width, 1)
    check_rate("dropout", dropout)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        # VGG's features are those before each pooling, the paper's those after it.
        decoder=lambda _: FCN8sDecoder(num_classes, width, float(dropout), encoder.startswith("vgg"), dtype),
        remat=remat,
        mean=mean,
        std=std,
        dtype=dtype,
        image_classes=image_classes,
        head_kernel_size=0,
    )


class FCN8sDecoder(nn.Module):
    """Logits from the features at 1/8, 1/16 and 1/32. What has one channel a class is computed in float32."""

    num_classes: int
    width: int
    dropout: float
    pools: bool
    """Whether the features at 1/8 and 1/16 are those one level above, pooled."""
    dtype: Any

    torch_names: ClassVar[Renames] = ()

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """float32[B, H, W, num_classes]."""
        eighth, sixteenth = map(ops.max_pool, features[2:4]) if self.pools else features[3:5]
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
    """The kernel [2 * n, 2 * n, C, C] of a transposed convolution of stride n that is bilinear up-sampling by n."""
    del key
    size = shape[0]
    along = 1 - np.abs(np.arange(size) - (size - 1) / 2) / (size / 2)
    return jnp.asarray(along[:, None, None, None] * along[:, None, None] * np.eye(shape[2], shape[3]), dtype)
