"""The networks: `MODELS` names every constructor; each is keyword-only and checks its arguments."""

from collections.abc import Callable

import flax.linen as nn

from flaxseg.models.decoders.deeplabv3 import deeplabv3
from flaxseg.models.decoders.deeplabv3plus import deeplabv3plus
from flaxseg.models.decoders.fcn8s import fcn8s
from flaxseg.models.decoders.fpn import fpn
from flaxseg.models.decoders.linknet import linknet
from flaxseg.models.decoders.manet import manet
from flaxseg.models.decoders.pan import pan
from flaxseg.models.decoders.pspnet import pspnet
from flaxseg.models.decoders.segformer import segformer
from flaxseg.models.decoders.unet import CLASSIC, unet
from flaxseg.models.decoders.unet_mobilenet import unet_mobilenet
from flaxseg.models.decoders.unetplusplus import unetplusplus
from flaxseg.models.decoders.upernet import upernet
from flaxseg.models.standalone.attention_unet import attention_unet
from flaxseg.models.standalone.plain_unet import UNet
from flaxseg.models.standalone.resunet import resunet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": unet,
    "unetplusplus": unetplusplus,
    "attention_unet": attention_unet,
    "resunet": resunet,
    "unet_mobilenet": unet_mobilenet,
    "fcn8s": fcn8s,
    "deeplabv3": deeplabv3,
    "deeplabv3plus": deeplabv3plus,
    "pspnet": pspnet,
    "pan": pan,
    "fpn": fpn,
    "linknet": linknet,
    "manet": manet,
    "segformer": segformer,
    "upernet": upernet,
}
"""Constructors by the name that a configuration gives. A new model is one file and one line here."""

__all__ = [
    "CLASSIC",
    "MODELS",
    "UNet",
    "attention_unet",
    "deeplabv3",
    "deeplabv3plus",
    "fcn8s",
    "fpn",
    "linknet",
    "manet",
    "pan",
    "pspnet",
    "resunet",
    "segformer",
    "unet",
    "unet_mobilenet",
    "unetplusplus",
    "upernet",
]
