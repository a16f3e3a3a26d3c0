"""A U-Net around MobileNetV2, as the image segmentation tutorial of TensorFlow builds it.

https://www.tensorflow.org/tutorials/images/segmentation
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.arguments import check_widths
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import ConvTranspose
from flaxseg.models.layers.normalization import norm


def unet_mobilenet(
    *,
    num_classes: int,
    decoder_channels: Sequence[int] = (512, 256, 128, 64),
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A small U-Net that joins MobileNetV2's expanded channels: of 6,504,227 values for 3 classes.

    The tutorial keeps the pretrained encoder as it is: `optimizer.freeze=("encoder",)` in a configuration.

    Args:
      num_classes: channels of the logits.
      decoder_channels: channels of the four up-sampling blocks, the coarsest first.
      remat: as of `encoder_decoder`; so are the others.
      image_classes: see there.
      mean: see there.
      std: see there.
      dtype: see there.

    Raises:
      ConfigError: an argument is out of range.
    """
    widths = check_widths("decoder_channels", decoder_channels, count=4)
    network = encoder_decoder(
        num_classes=num_classes,
        encoder="mobilenet_v2",
        decoder=lambda _: TransposedDecoder(num_classes, widths, dtype),
        remat=remat,
        mean=mean,
        std=std,
        dtype=dtype,
        image_classes=image_classes,
        head_kernel_size=0,
    )
    return network.clone(encoder=network.encoder.clone(expanded=True))


class TransposedDecoder(nn.Module):
    """Up-samples by transposed convolutions, and joins the encoder's feature after each but the last."""

    num_classes: int
    widths: tuple[int, ...]
    dtype: Any

    torch_names: ClassVar[Renames] = ()

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Logits, float32[B, H, W, num_classes]; they are computed in float32."""
        _, *skips, x = features
        for number, (width, skip) in enumerate(zip(self.widths, reversed(skips), strict=True)):
            x = _UpBlock(width, self.dtype, name=f"block{number}")(x, train=train)
            x = jnp.concatenate([x, skip], -1)
        return ConvTranspose(self.num_classes, 3, name="logits")(x)


class _UpBlock(nn.Module):
    """Transposed convolution by 2, normalization, ReLU."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = ConvTranspose(self.width, 3, use_bias=False, dtype=self.dtype, name="conv")(x)
        return nn.relu(norm("batch", self.width, train=train, dtype=self.dtype)(x))
