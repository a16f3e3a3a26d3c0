"""What decoders have in common."""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax

from flaxseg.errors import ArgumentError
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.pretrained.torch_names import TorchNames

GIVEN_FIELDS = ("num_classes", "auxiliary_head", "unpooled_features", "patch_features", "dtype")
"""The fields of a decoder that are not options of its architecture, because `Architecture` sets them.

num_classes: number of classes, for a decoder that returns logits.
auxiliary_head: return further feature maps for auxiliary heads.
unpooled_features: the encoder's attribute of this name.
patch_features: the features are those of the patches of a vision transformer; see `takes_patches`.
dtype: float32 or bfloat16, the data type of the computation."""

ATTENTIONS = ("none", "scse")
"""Kinds of attention in the blocks of U-Net and UNet++."""


class Decoder(nn.Module):
    """Base class of decoders: modules that turn an encoder's features into one feature map.

    The dataclass fields of a decoder, except for GIVEN_FIELDS, are the options of its architecture. Their types and
    defaults are read from the class, and their descriptions from the section `Attributes:` of its docstring.
    """

    torch_names: ClassVar[TorchNames] = ()
    """The decoder's modules in segmentation_models_pytorch, for pretrained weights; see `TorchNames`."""

    takes_patches: ClassVar[bool] = False
    """Whether the features of a vision transformer are given as they are, all at one stride, and not as a pyramid."""

    runs_encoder: ClassVar[bool] = False
    """Whether a call also takes the argument `encoder`, the vision transformer whose last blocks the decoder runs; see
    its `open_blocks`."""

    def adapt(self, encoder: VisionTransformer) -> VisionTransformer:
        """Returns a vision transformer with other fields, such as `feature_blocks`, if this decoder requires them."""
        return encoder

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks that the options are in range, and that they fit the encoder.

        Args:
          encoder: the encoder's name.
          channels: channels of the encoder's features at 1/2, 1/4, ... of the image; 0 where it has no feature. Their
            number is the encoder's depth. If the decoder `takes_patches`, those of a vision transformer's features.

        Raises:
          ArgumentError: an option is out of range or does not fit the encoder.
        """

    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> Any:
        """Returns a feature map of any size, which the head turns into logits.

        Args:
          features: the padded image [B, H, W, C], then the encoder's features at 1/2, 1/4, ... of its size. If the
            decoder `takes_patches`, those of a vision transformer are all at 1 / patch of the image's size.
          train: normalize by the batch's own statistics and apply dropout.

        Returns:
          [B, h, w, D]; with `auxiliary_head`, a tuple of this map and of the maps for the auxiliary heads.
        """
        raise NotImplementedError


def refuse_encoders(encoder: str, refused: Collection[str], *, reason: str) -> None:
    """Raises ArgumentError if the encoder is one of `refused`."""
    if encoder in refused:
        raise ArgumentError("encoder", encoder, f"none of {', '.join(refused)} can be used here: {reason}")
