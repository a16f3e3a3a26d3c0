"""The shape that the networks with an exchangeable encoder share: encoder, decoder, head."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import ConfigError
from flaxseg.models.arguments import ChannelValues, channel_values, check_dtype, check_integer, check_number
from flaxseg.models.encoders import ENCODERS, Renames, make_encoder
from flaxseg.models.layers.conv import Conv, ConvNormAct, crop, pad_to_stride

NormalizationValues = float | Sequence[float] | None


class EncoderDecoder(nn.Module):
    """An encoder's features, a decoder that makes one map of them, and a head; made by the architectures' functions.

    Parameters are named `encoder/...`, `decoder/...`, `head/...`.
    """

    num_classes: int
    encoder_name: str
    encoder: nn.Module
    decoder: nn.Module
    """Called on the encoder's features, with `train=`; gives [B, h, w, C] at 1 / `upsampling` of the picture's sides,
    or a tuple of this map and others for auxiliary heads. Has the attribute `torch_names`."""
    mean: ChannelValues
    std: ChannelValues
    dtype: Any
    head_kernel_size: int = 3
    """0: no head; the decoder gives the logits, in float32."""
    upsampling: int = 1
    auxiliary_channels: int = 0
    """Inner channels of an auxiliary head on the last feature but one; 0: none there."""
    auxiliary_weight: float = 0.0
    """What the training step multiplies the loss of the auxiliary heads by; 0: there are none."""
    image_classes: int = 0
    """Classes of the head that classifies whole pictures; 0: none."""

    torch_names: ClassVar[Renames] = ((r"segmentation_head\.0", "head"), (r"classification_head\.3", "image_head"))

    @property
    def stride(self) -> int:
        """What the height and width are padded to a multiple of."""
        return int(self.encoder.output_stride)  # type: ignore[attr-defined]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits, float32[B, H, W, num_classes], of normalized pictures, float[B, H, W, C], of any size.

        With `train`, batch statistics are those of the batch (and `batch_stats` is to be mutable), and dropout takes
        its randomness from the collection "dropout". Where collections of these names are mutable, "auxiliary" gets
        the auxiliary heads' logits at the picture's size, and "image_logits" float32[B, image_classes].
        """
        size = x.shape[1], x.shape[2]
        padded = pad_to_stride(x, self.stride)
        whole = padded.shape[1], padded.shape[2]
        features = self.encoder(padded, train=train)
        decoded, *side_maps = _maps(self.decoder(features, train=train))
        logits = self._logits(decoded, "head", self.head_kernel_size) if self.head_kernel_size else decoded
        if self.upsampling > 1:
            logits = ops.resize_bilinear(logits, whole, align_corners=True)
        if self.auxiliary_weight:
            if self.auxiliary_channels:
                block = ConvNormAct(self.auxiliary_channels, dtype=self.dtype, name="auxiliary_block")
                side_maps.append(block(features[-2], train=train))
            for number, side_map in enumerate(side_maps):
                side_logits = ops.resize_bilinear(self._logits(side_map, f"auxiliary_head{number}", 1), whole)
                self.sow("auxiliary", f"logits{number}", crop(side_logits, size))
        if self.image_classes:
            pooled = nn.Dropout(0.2, deterministic=not train)(features[-1].astype(jnp.float32).mean((1, 2)))
            self.sow("image_logits", "logits", nn.Dense(self.image_classes, name="image_head")(pooled))
        return crop(logits, size)

    def _logits(self, x: jax.Array, name: str, kernel_size: int) -> jax.Array:
        # In float32 whatever the rest is computed in: rounded logits would show in the loss.
        return Conv(self.num_classes, kernel_size, name=name)(x.astype(jnp.float32))


def _maps(decoded: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return decoded if isinstance(decoded, tuple) else (decoded,)


def encoder_decoder(
    *,
    num_classes: int,
    encoder: str,
    decoder: Any,
    encoder_depth: int = 5,
    output_stride: int = 32,
    remat: bool = False,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
    auxiliary_weight: float = 0.0,
    image_classes: int = 0,
    **head: Any,
) -> EncoderDecoder:
    """A network of an encoder and a decoder, once its arguments were checked.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      decoder: `decoder(encoder_module)` returns the decoder's module.
      encoder_depth: how often the encoder halves the picture.
      output_stride: the smallest features are at 1 / output_stride of the picture.
      remat: compute the encoder's blocks again for the gradient instead of keeping what they gave: less memory, a
        third more time.
      mean: subtracted from a picture's 0..255 by the training step; None: that of the encoder's public weights.
      std: what the difference is divided by; likewise.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.
      auxiliary_weight: what the training step multiplies the loss of auxiliary heads by; 0: without them.
      image_classes: classes of a head that classifies whole pictures; 0: none.
      **head: further attributes of EncoderDecoder that differ from their defaults.

    Raises:
      ConfigError: an argument is out of range, or the encoder unknown.
    """
    check_integer("num_classes", num_classes, 1)
    check_dtype("dtype", dtype)
    check_integer("image_classes", image_classes, 0)
    check_number("auxiliary_weight", auxiliary_weight)
    if auxiliary_weight < 0:
        raise ConfigError(f"auxiliary_weight = {auxiliary_weight!r}: must be at least 0; 0 is without auxiliary heads")
    module = make_encoder(encoder, depth=encoder_depth, output_stride=output_stride, remat=remat, dtype=dtype)
    own = ENCODERS[encoder]
    return EncoderDecoder(
        num_classes=num_classes,
        encoder_name=encoder,
        encoder=module,
        decoder=decoder(module),
        mean=channel_values("mean", own.mean if mean is None else mean),
        std=channel_values("std", own.std if std is None else std, positive=True),
        dtype=dtype,
        auxiliary_weight=float(auxiliary_weight),
        image_classes=image_classes,
        **head,
    )
