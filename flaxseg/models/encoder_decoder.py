"""The network that all architectures with an exchangeable encoder share: encoder, decoder, heads."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import ChannelValues
from flaxseg.models.encoded import EncodedImages
from flaxseg.models.layers.conv import Conv, ConvNormAct, crop, pad_to_stride
from flaxseg.models.layers.pyramid import PATCH, feature_pyramid
from flaxseg.models.pretrained.torch_names import TorchNames


class EncoderDecoder(nn.Module):
    """An encoder, a decoder that fuses its features into one feature map, and heads. See `Architecture`.

    Parameters are named `encoder/...`, `decoder/...`, `head/...`, `auxiliary_block/...`, `auxiliary_head{i}/...`,
    `image_head/...`.

    Attributes:
      num_classes: number of classes, the channels of the logits.
      encoder_name: the encoder's name in ENCODERS.
      encoder: the encoder's module, as `Encoder.make` returns it.
      decoder: the decoder's module, as `Decoder` describes it.
      mean: mean that is subtracted from images with values 0..255: one number, or one per channel.
      std: standard deviation that the result is divided by: one number, or one per channel.
      dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.
      head_kernel_size: kernel size of the head's convolution; 0: there is no head, and the decoder computes the logits.
      auxiliary_head: add heads on the decoder's further maps or, with `auxiliary_channels` and without such maps, on
        the encoder's second-to-last feature.
      auxiliary_channels: inner channels of the last of these heads; 0: it has none.
      image_classes: number of classes of the head that classifies whole images; 0: no such head.
      align_corners: resize the logits so that the centers of the corner pixels, and not their corners, stay in place.
      pyramid_stride: resize the features of a vision transformer to a pyramid of up to this output stride; 0: the
        decoder takes the features as they are.
    """

    num_classes: int
    encoder_name: str
    encoder: nn.Module
    decoder: nn.Module
    mean: ChannelValues
    std: ChannelValues
    dtype: Any
    head_kernel_size: int = 3
    auxiliary_head: bool = False
    auxiliary_channels: int = 0
    image_classes: int = 0
    align_corners: bool = True
    pyramid_stride: int = 0

    torch_names: ClassVar[TorchNames] = ((r"segmentation_head\.0", "head"), (r"classification_head\.3", "image_head"))

    @property
    def stride(self) -> int:
        """Height and width are padded to multiples of this number."""
        # A pyramid halves the features of a vision transformer where its stride is twice that of the patches.
        return int(self.encoder.output_stride) * max(1, self.pyramid_stride // PATCH)  # type: ignore[attr-defined]

    def encode(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns the encoder's features of normalized images [B, H, W, C], padded to multiples of `stride`."""
        features: list[jax.Array] = self.encoder(pad_to_stride(x, self.stride), train=train)
        return features

    @nn.compact
    def __call__(self, x: jax.Array | EncodedImages, *, train: bool) -> jax.Array:
        """Returns the logits of normalized images.

        Where the collections "auxiliary" and "image_logits" are mutable, they receive the auxiliary heads' logits,
        float32[B, H, W, num_classes] each, and the logits of whole images, float32[B, image_classes].

        Args:
          x: normalized images, float[B, H, W, C], of any size; or what `encode` returned for them.
          train: normalize by the batch's own statistics (the collection "batch_stats" has to be mutable), and apply
            dropout with the random key "dropout".

        Returns:
          float32[B, H, W, num_classes].
        """
        if isinstance(x, EncodedImages):
            features, size = x.all_features(), x.size
        else:
            features, size = self.encode(x, train=train), (x.shape[1], x.shape[2])
        # The first feature is the padded image.
        whole = features[0].shape[1], features[0].shape[2]
        if self.pyramid_stride:
            features = feature_pyramid(features, output_stride=self.pyramid_stride)
        shared = {"encoder": self.encoder} if self.decoder.runs_encoder else {}  # type: ignore[attr-defined]
        decoded, *side_maps = _maps(self.decoder(features, train=train, **shared))
        logits = self._logits(decoded, "head", self.head_kernel_size) if self.head_kernel_size else decoded
        if logits.shape[1:3] != whole:
            logits = ops.resize_bilinear(logits, whole, align_corners=self.align_corners)
        if self.auxiliary_head:
            if self.auxiliary_channels:
                block = ConvNormAct(self.auxiliary_channels, dtype=self.dtype, name="auxiliary_block")
                side_maps.append(block(side_maps.pop() if side_maps else features[-2], train=train))
            for number, side_map in enumerate(side_maps):
                side_logits = ops.resize_bilinear(self._logits(side_map, f"auxiliary_head{number}", 1), whole)
                self.sow("auxiliary", f"logits{number}", crop(side_logits, size))
        if self.image_classes:
            pooled = nn.Dropout(0.2, deterministic=not train)(self._wide(features[-1]).mean((1, 2)))
            self.sow("image_logits", "logits", nn.Dense(self.image_classes, name="image_head")(pooled))
        return crop(logits, size)

    def _logits(self, x: jax.Array, name: str, kernel_size: int) -> jax.Array:
        # Not in bfloat16, because rounding errors of the logits would affect the loss.
        wide = self._wide(x)
        return Conv(self.num_classes, kernel_size, dtype=wide.dtype, name=name)(wide)

    def _wide(self, x: jax.Array) -> jax.Array:
        return x.astype(jnp.promote_types(self.dtype, jnp.float32))


def _maps(decoded: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return decoded if isinstance(decoded, tuple) else (decoded,)
