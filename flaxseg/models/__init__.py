"""The networks: `MODELS` lists every architecture, and `build_model` returns one by name.

An architecture that can have any encoder is a decoder in a file of `decoders/` and one row of MODELS. Other networks
are functions in files of `standalone/`, with a row each.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import flax.linen as nn

from flaxseg.errors import ArgumentError, unknown_attribute
from flaxseg.models.architecture import Architecture
from flaxseg.models.contract import check_contract
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.decoders.deeplabv3 import DeepLabV3Decoder
from flaxseg.models.decoders.deeplabv3plus import DeepLabV3PlusDecoder
from flaxseg.models.decoders.dpt import DPTDecoder
from flaxseg.models.decoders.eomt import EoMTDecoder
from flaxseg.models.decoders.fcn import FCNDecoder
from flaxseg.models.decoders.fcn8s import FCN8sDecoder
from flaxseg.models.decoders.fpn import FPNDecoder
from flaxseg.models.decoders.linear import LinearDecoder
from flaxseg.models.decoders.linknet import LinkNetDecoder
from flaxseg.models.decoders.lraspp import LRASPPDecoder
from flaxseg.models.decoders.manet import MANetDecoder
from flaxseg.models.decoders.mask2former import Mask2FormerDecoder
from flaxseg.models.decoders.pan import PANDecoder
from flaxseg.models.decoders.pspnet import PSPDecoder
from flaxseg.models.decoders.segformer import SegFormerDecoder
from flaxseg.models.decoders.unet import UNetDecoder
from flaxseg.models.decoders.unetplusplus import UNetPlusPlusDecoder
from flaxseg.models.decoders.upernet import UPerNetDecoder
from flaxseg.models.option_names import check_names
from flaxseg.models.protocol import SegmentationModel
from flaxseg.models.standalone.attention_unet import attention_unet
from flaxseg.models.standalone.plain_unet import CLASSIC, plain_unet
from flaxseg.models.standalone.resunet import resunet
from flaxseg.models.standalone.unet_mobilenet import unet_mobilenet
from flaxseg.registry import look_up, option_names

P = ParamSpec("P")
R = TypeVar("R")

unet = Architecture(UNetDecoder)
"""The U-Net with any encoder, as in `unet(num_classes=3, encoder="resnet34")`; see `Architecture`."""

MODELS: dict[str, Architecture | Callable[..., nn.Module]] = {
    "unet": unet,
    "unetplusplus": Architecture(UNetPlusPlusDecoder),
    "manet": Architecture(MANetDecoder),
    "linknet": Architecture(LinkNetDecoder, head_kernel_size=1),
    "fpn": Architecture(FPNDecoder, head_kernel_size=1),
    "deeplabv3": Architecture(DeepLabV3Decoder, output_strides=(8, 16), head_kernel_size=1, auxiliary_channels=256),
    "deeplabv3plus": Architecture(
        DeepLabV3PlusDecoder, output_strides=(16, 8), head_kernel_size=1, auxiliary_channels=256
    ),
    "pspnet": Architecture(PSPDecoder, encoder_depth=3, output_strides=(32, 16, 8), auxiliary_channels=256),
    "pan": Architecture(PANDecoder, output_strides=(16, 32)),
    "upernet": Architecture(UPerNetDecoder, head_kernel_size=1, auxiliary_channels=256),
    "segformer": Architecture(SegFormerDecoder, head_kernel_size=1),
    "mask2former": Architecture(Mask2FormerDecoder, encoder="swin_tiny_patch4_window7_224", head_kernel_size=0),
    "dpt": Architecture(DPTDecoder, encoder="vit_base_patch16_384", output_strides=(32, 16, 8), head_kernel_size=1),
    "eomt": Architecture(
        EoMTDecoder, encoder="vit_base_patch14_reg4_dinov2", output_strides=(32, 16, 8), head_kernel_size=0
    ),
    "fcn": Architecture(FCNDecoder, output_strides=(8, 16, 32), head_kernel_size=1, auxiliary_channels=256),
    "lraspp": Architecture(
        LRASPPDecoder, encoder="mobilenetv3_large_100", output_strides=(16, 8, 32), head_kernel_size=1
    ),
    "linear": Architecture(
        LinearDecoder,
        encoder="vit_small_patch14_dinov2",
        output_strides=(32, 16, 8),
        head_kernel_size=1,
        align_corners=False,
    ),
    "fcn8s": Architecture(FCN8sDecoder, encoder="vgg16", head_kernel_size=0),
    "plain_unet": plain_unet,
    "attention_unet": attention_unet,
    "resunet": resunet,
    "unet_mobilenet": unet_mobilenet,
}
"""The networks by name: architectures with any encoder, and functions that return networks with a fixed one."""


__all__ = [
    "CLASSIC",
    "MODELS",
    "Architecture",
    "Decoder",
    "SegmentationModel",
    "attention_unet",
    "build_model",
    "check_contract",
    "plain_unet",
    "resunet",
    "unet",
    "unet_mobilenet",
]


def _names_checked_first(build: Callable[P, R]) -> Callable[P, R]:
    """Returns `build_model`, which names all options that do not exist before Python names one that is missing."""

    @functools.wraps(build)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        if "num_classes" not in options and (args or "name" in options):
            given: dict[str, Any] = {**options}
            name: Any = args[0] if args else given.pop("name")
            check_names(given, listed=option_names(look_up(name, MODELS)))
        return build(*args, **options)

    return checked


@_names_checked_first
def build_model(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """Returns a network by name.

        build_model("deeplabv3plus", num_classes=19, encoder="resnet50", output_stride=8)

    Args:
      name: a name of MODELS, or `package.module:function` for a function or `Architecture` of your own.
      num_classes: number of classes, the channels of the logits; 2 for an object and its background.
      **options: the options of the network: for an architecture, the arguments that `Architecture.__call__` documents
        (`encoder`, `encoder_depth`, `output_stride`, ...) and the fields of its decoder, such as those of `FPNDecoder`;
        for another network, the arguments of its function, such as `plain_unet`. `registry.options_of(MODELS[name])`
        lists them.

    Raises:
      ArgumentError: the name or an option is unknown, or an option is out of range.
    """
    entry = look_up(name, MODELS)
    _check_takes(entry, name, {"num_classes": num_classes, **options})
    return entry(num_classes=num_classes, **options)


def _check_takes(entry: Callable[..., Any], name: str, keywords: Mapping[str, Any]) -> None:
    """Raises ArgumentError for a function of the user's that does not take the keywords that it is called with."""
    if name in MODELS:
        return
    try:
        inspect.signature(entry).bind(**keywords)
    except TypeError as error:
        raise ArgumentError(
            "name",
            name,
            f"cannot be called with the keywords {', '.join(keywords)} ({error}); a function that returns a network "
            "takes num_classes, dtype and its options as keywords",
        ) from error


if not TYPE_CHECKING:  # A type checker would otherwise accept any name.

    def __getattr__(name: str) -> Any:
        """Names the nearest network in the error about one that does not exist, such as `DeepLabV3Plus`."""
        raise unknown_attribute(__name__, name, constructors())


def constructors() -> dict[str, str]:
    """Returns how each network of MODELS is made, by name, for error messages."""
    return {name: f"flaxseg.build_model({name!r}, num_classes=...)" for name in MODELS}
