"""The encoders: `ENCODERS` lists every variant; a family of encoders is one file and one line here."""

import difflib
import re
from typing import Any

import flax.linen as nn

from flaxseg.errors import ArgumentError, check_integer
from flaxseg.models.encoders import (
    beit,
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    hrnet,
    mix_transformer,
    mobilenet_v2,
    mobilenet_v3,
    regnet,
    resnest,
    resnet,
    swin,
    vgg,
    vit,
)
from flaxseg.models.encoders.encoder import Encoder, HubFile

ENCODERS: dict[str, Encoder] = {
    **resnet.ENCODERS,
    **vgg.ENCODERS,
    **mobilenet_v2.ENCODERS,
    **efficientnet.ENCODERS,
    **convnext.ENCODERS,
    **mix_transformer.ENCODERS,
    **resnest.ENCODERS,
    **regnet.ENCODERS,
    **densenet.ENCODERS,
    **mobilenet_v3.ENCODERS,
    **efficientnet_v2.ENCODERS,
    **hrnet.ENCODERS,
    **vit.ENCODERS,
    **swin.ENCODERS,
    **beit.ENCODERS,
}
"""Encoders by name."""

_TIMM_PREFIX = re.compile("tu-|timm[-/]")
"""What segmentation_models_pytorch and the Hugging Face hub put before timm's names; the hub adds a dot and a tag."""

__all__ = ["ENCODERS", "Encoder", "HubFile", "look_up_encoder", "make_encoder"]


def look_up_encoder(name: str) -> Encoder:
    """Returns the entry of ENCODERS called `name`.

    Raises:
      ArgumentError: there is no such encoder; the message names the nearest.
    """
    if name not in ENCODERS:
        found = nearest_encoders(str(name))
        text = f"; did you mean {' or '.join(map(repr, found))}?" if found else "."
        raise ArgumentError("encoder", name, f"unknown{text} `flaxseg models` lists all {len(ENCODERS)} encoders")
    return ENCODERS[name]


def nearest_encoders(name: str) -> list[str]:
    """Returns up to three names of ENCODERS for one that is none of them, those with public weights first.

    Args:
      name: a name that begins theirs, is spelled similarly, or is that of another library.
    """
    stem = _TIMM_PREFIX.sub("", name).split(".")[0].lower().replace("-", "_")
    if stem in ENCODERS:
        return [stem]
    longer = [known for known in ENCODERS if stem and known.startswith(stem)]
    if any(ENCODERS[known].pretrained for known in longer):
        near = []
    else:
        near = difflib.get_close_matches(stem, list(ENCODERS), n=5, cutoff=0.6)
    return sorted(dict.fromkeys(longer + near), key=lambda known: ENCODERS[known].pretrained is None)[:3]


def make_encoder(name: str, *, depth: int = 5, output_stride: int = 32, dtype: Any) -> nn.Module:
    """Returns the module of an encoder, as `Encoder.make` describes it.

    Args:
      name: a name of ENCODERS.
      depth: number of times that the encoder halves the image.
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.

    Raises:
      ArgumentError: no encoder has this name, or it does not support this depth or output stride.
    """
    encoder = look_up_encoder(name)
    check_integer("encoder_depth", depth, 1)
    for argument, value, allowed in (
        ("encoder_depth", depth, encoder.depths),
        ("output_stride", output_stride, encoder.output_strides),
    ):
        if value not in allowed:
            raise ArgumentError(argument, value, f"encoder {name} supports {' or '.join(map(str, allowed))}")
    return encoder.make(depth=depth, output_stride=min(output_stride, 2**depth), dtype=dtype)
