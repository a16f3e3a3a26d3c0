"""The layout of segmentation_models_pytorch 0.6: the `config.json` that `save_pretrained` writes.

Every option is mapped to one of this library or refused, because several leave no trace in the weights: a network
would load and compute something else.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flaxseg.models.encoders import ENCODERS
from flaxseg.models.pretrained.published import MAX_CLASSES, Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_networks import tensor_arrays

CLASS_KEY = "_model_class"
"""The key of the network's class."""

_UNET = {"decoder_channels": ("decoder_channels", (256, 128, 64, 32, 16))}
_ASPP = {
    "decoder_channels": ("decoder_channels", 256),
    "decoder_atrous_rates": ("atrous_rates", (12, 24, 36)),
    "decoder_aspp_dropout": ("dropout", 0.5),
}


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class of the library.

    Attributes:
      name: the network's name in MODELS.
      mapped: for each of its options, the option here, and the default there.
      interpolation: the interpolation of its decoder; "": it has no such option.
      has_norm: the normalization of its decoder can be chosen.
      depth: the default depth of its encoder.
      output_stride: the default output stride; 0: it has no such option.
      upsampling: the default factor of its head; 0: it has no such option.
      stride: the stride of its decoder's output, given the encoder's depth and output stride.
    """

    name: str
    mapped: Mapping[str, tuple[str, Any]]
    interpolation: str = ""
    has_norm: bool = False
    depth: int = 5
    output_stride: int = 0
    upsampling: int | None = 0
    stride: Callable[[int, int], int] = lambda depth, output_stride: 4


_CLASSES = {
    "Unet": _Class("unet", {**_UNET, "decoder_attention_type": ("attention", None)}, "nearest", has_norm=True),
    "UnetPlusPlus": _Class(
        "unetplusplus", {**_UNET, "decoder_attention_type": ("attention", None)}, "nearest", has_norm=True
    ),
    "MAnet": _Class("manet", {**_UNET, "decoder_pab_channels": ("attention_channels", 64)}, "nearest", has_norm=True),
    "Linknet": _Class("linknet", {}, has_norm=True),
    "FPN": _Class(
        "fpn",
        {
            "decoder_pyramid_channels": ("pyramid_channels", 256),
            "decoder_segmentation_channels": ("segmentation_channels", 128),
            "decoder_merge_policy": ("merge", "add"),
            "decoder_dropout": ("dropout", 0.2),
        },
        "nearest",
        upsampling=4,
        stride=lambda depth, output_stride: 2 ** (depth - 3),
    ),
    "PSPNet": _Class(
        "pspnet",
        {"psp_out_channels": ("decoder_channels", 512), "psp_dropout": ("dropout", 0.2)},
        has_norm=True,
        depth=3,
        upsampling=8,
        stride=lambda depth, output_stride: 2**depth,
    ),
    "DeepLabV3": _Class(
        "deeplabv3",
        {**_ASPP, "decoder_aspp_separable": ("separable", False)},
        output_stride=8,
        upsampling=None,
        stride=lambda depth, output_stride: min(2**depth, output_stride),
    ),
    "DeepLabV3Plus": _Class(
        "deeplabv3plus", {**_ASPP, "decoder_aspp_separable": ("separable", True)}, output_stride=16, upsampling=4
    ),
    "PAN": _Class("pan", {"decoder_channels": ("decoder_channels", 32)}, "bilinear", output_stride=16, upsampling=4),
    "UPerNet": _Class("upernet", {"decoder_channels": ("decoder_channels", 256)}, has_norm=True, upsampling=4),
    "Segformer": _Class("segformer", {"decoder_segmentation_channels": ("decoder_channels", 256)}, upsampling=4),
}

_OLD_NAMES = {
    "decoder_use_norm": ("decoder_use_batchnorm", "psp_use_batchnorm"),
    "decoder_interpolation": ("upscale_mode",),
}
"""Deprecated names of options, which take precedence over the present ones."""

_OWN_NAMES = ("vgg", "mobilenet_v2", "efficientnet", "mit_b", "densenet", "se_resnext")
"""Prefixes of encoders that are those of the library itself, not the ones of timm with such a name."""

_DILATED_ALIKE = ("convnext", "efficientnet_lite")
"""Prefixes of encoders that timm dilates as this library does."""

_LITE = "tf_efficientnet_lite"
_PLAIN_NORMS: tuple[Any, ...] = ("batchnorm", True, {"type": "batchnorm"})
_NO_NORMS: tuple[Any, ...] = ("identity", False, {"type": "identity"})


def read_smp(settings: Settings) -> Layout:
    """Returns the network that the `config.json` of segmentation_models_pytorch describes.

    A network with one class, whose logit is that of the foreground, becomes one with two: the background's logit is 0,
    so that the softmax of both equals the sigmoid of the one.

    Raises:
      WeightsError: a class, an encoder or an option that has no counterpart here; the message names the key.
    """
    kind = settings.text(CLASS_KEY)
    if kind not in _CLASSES:
        raise settings.error(CLASS_KEY, kind, f"is not supported; supported are {', '.join(_CLASSES)}")
    row = _CLASSES[kind]
    depth = settings.count("encoder_depth", row.depth, largest=5)
    options: dict[str, Any] = {"encoder_depth": depth}
    options |= {ours: _value(settings.take(key, default)) for key, (ours, default) in row.mapped.items()}
    if "attention" in options:
        options["attention"] = options["attention"] or "none"
    output_stride = settings.count("encoder_output_stride", row.output_stride) if row.output_stride else 32
    options["encoder"] = _encoder(settings, output_stride)
    if row.output_stride:
        options["output_stride"] = output_stride
    if row.interpolation:
        _take_old_name(settings, "decoder_interpolation", (row.interpolation,), row.interpolation)
    if row.has_norm:
        options |= _norm(settings, row.name)
    if row.upsampling != 0:
        _check_upsampling(settings, row, depth, output_stride)
    settings.take("encoder_weights")
    classes, channels = settings.count("classes", 1, largest=MAX_CLASSES), settings.count("in_channels", 3)
    _check_activation(settings, classes)
    image_classes, notes = _classification_head(settings)
    if image_classes:
        options["image_classes"] = image_classes
    settings.refuse_others(lambda key: key.startswith("_"))
    if classes == 1:
        names = ("background", "foreground")
        return Layout(row.name, options, 2, channels, _convert_binary, names, notes)
    return Layout(row.name, options, classes, channels, tensor_arrays, (), notes)


def _encoder(settings: Settings, output_stride: int) -> str:
    """Returns the name here of an encoder."""
    given = settings.text("encoder_name", "resnet34")
    own = given.replace("-", "_") if given.startswith("efficientnet-b") else given
    if own in ENCODERS and not own.startswith(("efficientnet_lite", "convnext")):
        return own
    if given.startswith("tu-"):
        of_timm = given.removeprefix("tu-").partition(".")[0]
        name = of_timm.removeprefix("tf_") if of_timm.startswith(_LITE) else of_timm
        if name in ENCODERS and (of_timm.startswith(_LITE) or not name.startswith(_OWN_NAMES)):
            if output_stride < 32 and not name.startswith(_DILATED_ALIKE):
                raise settings.error(
                    "encoder_output_stride",
                    output_stride,
                    f"is not supported with the encoder {given}, which timm dilates in another way; only 32 is",
                )
            return name
    timms = [f"tu-tf_{name}" if "lite" in name else f"tu-{name}" for name in ENCODERS if not _is_own(name)]
    names = [name.replace("efficientnet_b", "efficientnet-b") for name in ENCODERS if _is_own(name)]
    raise settings.error(
        "encoder_name",
        given,
        f"is not supported; supported are {', '.join([*names, *timms])}, and tu-resnet18 and such",
    )


def _is_own(name: str) -> bool:
    return not name.startswith(("efficientnet_lite", "convnext"))


def _take_old_name(settings: Settings, key: str, allowed: tuple[Any, ...], default: Any) -> Any:
    """Returns the value of an option, under its present or a deprecated name.

    Raises:
      WeightsError: the value is not allowed.
    """
    value = settings.take(key, default)
    for name in _OLD_NAMES[key]:
        if (old := settings.take(name)) is not None:
            key, value = name, old
    if not any(value == each and type(value) is type(each) for each in allowed):
        raise settings.error(key, value, f"is not supported; only {allowed[0]!r} is")
    return value


def _norm(settings: Settings, name: str) -> dict[str, Any]:
    allowed = (*_PLAIN_NORMS, *_NO_NORMS) if name == "pspnet" else _PLAIN_NORMS
    value = _take_old_name(settings, "decoder_use_norm", allowed, "batchnorm")
    return {"use_batchnorm": value in _PLAIN_NORMS and value is not False} if name == "pspnet" else {}


def _check_upsampling(settings: Settings, row: _Class, depth: int, output_stride: int) -> None:
    stride = row.stride(depth, output_stride)
    value = settings.take("upsampling", row.upsampling)
    if value != stride and not (value is None and row.upsampling is None):
        raise settings.error(
            "upsampling",
            value,
            f"is not supported: logits of the image's size need {stride} with encoder_depth = {depth}",
        )


def _check_activation(settings: Settings, classes: int) -> None:
    value = settings.take("activation")
    allowed = ("identity", "sigmoid") if classes == 1 else ("identity", "softmax", "softmax2d", "logsoftmax")
    if value is not None and value not in allowed:
        several = "; classes that exclude each other need a softmax" if value == "sigmoid" else ""
        raise settings.error(
            "activation", value, f"is not supported with classes = {classes}{several}; None, {', '.join(allowed)} are"
        )


def _classification_head(settings: Settings) -> tuple[int, tuple[str, ...]]:
    """Returns the number of classes of the head that classifies images, and notes about it; 0 without one."""
    given = settings.take("aux_params")
    if given is None:
        return 0, ()
    head = Settings(given, f"{settings.name}: aux_params")
    classes = head.count("classes")
    head.require("pooling", "avg")
    dropout, activation = head.take("dropout", 0.2), head.take("activation")
    head.refuse_others()
    notes = ["the head that classifies whole images is loaded, and predictions do not use it"]
    if dropout != 0.2:
        notes.append(f"its dropout (aux_params.dropout = {dropout}) is 0.2 here")
    if activation is not None:
        notes.append(f"it returns logits here (aux_params.activation = {activation!r})")
    return classes, tuple(notes)


def _convert_binary(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    """Returns arrays with a background, whose logit is always 0, in front of the one class."""
    arrays, unknown = tensor_arrays(model, tensors)
    for leaf in ("kernel", "bias"):
        path = f"params/head/{leaf}"
        if path in arrays and arrays[path].shape[-1] == 1:
            arrays[path] = np.concatenate([np.zeros_like(arrays[path]), arrays[path]], -1)
    return arrays, unknown


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
