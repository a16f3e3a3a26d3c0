"""The networks: `MODELS` names every constructor; each is keyword-only and checks its arguments."""

from collections.abc import Callable

import flax.linen as nn

from flaxseg.models.attention_unet import attention_unet
from flaxseg.models.deeplabv3 import deeplabv3
from flaxseg.models.deeplabv3plus import deeplabv3plus
from flaxseg.models.fcn8s import fcn8s
from flaxseg.models.fpn import fpn
from flaxseg.models.linknet import linknet
from flaxseg.models.manet import manet
from flaxseg.models.pan import pan
from flaxseg.models.plain_unet import UNet
from flaxseg.models.pspnet import pspnet
from flaxseg.models.resunet import resunet
from flaxseg.models.segformer import segformer
from flaxseg.models.unet import CLASSIC, unet
from flaxseg.models.unet_mobilenet import unet_mobilenet
from flaxseg.models.unetplusplus import unetplusplus
from flaxseg.models.upernet import upernet

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
