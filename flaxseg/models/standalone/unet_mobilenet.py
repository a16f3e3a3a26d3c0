"""A U-Net with MobileNetV2 as its encoder, as in TensorFlow's image segmentation tutorial.

https://www.tensorflow.org/tutorials/images/segmentation
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.architecture import Architecture
from flaxseg.models.arguments import NormalizationValues, check_channels
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.layers.conv import ConvTranspose
from flaxseg.models.layers.normalization import norm
from flaxseg.models.option_names import names_checked


@names_checked
def unet_mobilenet(
    *,
    num_classes: int,
    decoder_channels: Sequence[int] = (512, 256, 128, 64),
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """Returns a small U-Net whose skips are MobileNetV2's expanded features: 6,471,395 parameters for 3 classes.

    The tutorial keeps the pretrained encoder frozen.

    Args:
      num_classes: number of classes, the channels of the logits.
      decoder_channels: channels of the four upsampling blocks, from the coarsest.
      image_classes: number of classes of a head that classifies whole images; 0: no such head.
      mean: mean that is subtracted from images with values 0..255: one number, or one per channel; None: the mean that
        the encoder's public weights expect.
      std: standard deviation that the result is divided by: one number, or one per channel; None: the standard
        deviation that the encoder's public weights expect.
      dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.

    Raises:
      ArgumentError: an argument is out of range.
    """
    architecture = Architecture(TransposedDecoder, encoder="mobilenet_v2", head_kernel_size=0)
    network = architecture(
        num_classes=num_classes,
        decoder_channels=tuple(decoder_channels),
        image_classes=image_classes,
        mean=mean,
        std=std,
        dtype=dtype,
    )
    return network.clone(encoder=network.encoder.clone(expanded=True))


class TransposedDecoder(Decoder):
    """Upsamples by transposed convolutions, and concatenates the encoder's feature after each but the last.

    Attributes:
      num_classes: number of classes.
      decoder_channels: channels of the four upsampling blocks, from the coarsest.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    num_classes: int
    decoder_channels: tuple[int, ...] = (512, 256, 128, 64)
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_channels("decoder_channels", self.decoder_channels, count=4)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns logits, float32[B, H, W, num_classes], which are computed in float32."""
        _, *skips, x = features
        for number, (width, skip) in enumerate(zip(self.decoder_channels, reversed(skips), strict=True)):
            x = _UpBlock(width, self.dtype, name=f"block{number}")(x, train=train)
            x = jnp.concatenate([x, skip], -1)
        return ConvTranspose(self.num_classes, 3, name="logits")(x)


class _UpBlock(nn.Module):
    """Transposed convolution with stride 2, batch normalization, ReLU."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = ConvTranspose(self.width, 3, use_bias=False, dtype=self.dtype, name="conv")(x)
        return nn.relu(norm("batch", self.width, train=train, dtype=self.dtype)(x))
