"""UPerNet in the layout of transformers, with the backbones of `BACKBONES`."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.backbone import Backbone
from flaxseg.models.pretrained.transformers_layout.configuration import TYPE_KEY, class_names, refuse_others
from flaxseg.models.pretrained.transformers_layout.convnext import CONVNEXT
from flaxseg.models.pretrained.transformers_layout.swin import SWIN

BACKBONES: dict[str, Backbone] = {"convnext": CONVNEXT, "swin": SWIN}
"""For each `model_type` of a backbone, how it is read."""

FEATURE_NAMES: TorchNames = tuple(
    (rf"backbone\.hidden_states_norms\.stage{i + 1}", f"decoder/feature_norm{i}") for i in range(4)
)
"""The names of the layer normalizations of a backbone's features."""


def head_names(norm: str) -> TorchNames:
    """Returns the names of the heads.

    Args:
      norm: what the batch normalization of a layer is called.
    """
    return (
        *(
            (rf"decode_head\.{theirs}\.{module}", f"decoder/{ours}/{leaf}")
            for theirs, ours in (
                (r"psp_modules\.(\d)\.1", r"pooling/grid\1"),
                (r"bottleneck", "pooling/fuse"),
                *((rf"lateral_convs\.{i}", f"lateral{2 - i}") for i in range(3)),
                *((rf"fpn_convs\.{i}", f"smooth{2 - i}") for i in range(3)),
                (r"fpn_bottleneck", "fuse"),
            )
            for module, leaf in (("conv", "conv"), (norm, "norm"))
        ),
        (r"decode_head\.classifier", "head"),
        (r"auxiliary_head\.convs\.0\.conv", "auxiliary_block/conv"),
        (rf"auxiliary_head\.convs\.0\.{norm}", "auxiliary_block/norm"),
        (r"auxiliary_head\.classifier", "auxiliary_head0"),
    )


def read_upernet(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` upernet describes.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    options = {"decoder_channels": settings.count("hidden_size", 512), **head_options(settings)}
    inner = Settings(settings.take("backbone_config"), f"{settings.name}: backbone_config")
    kind = inner.text(TYPE_KEY)
    if kind not in BACKBONES:
        raise inner.error(
            TYPE_KEY, kind, f"is not supported as a backbone of upernet; supported are {', '.join(BACKBONES)}"
        )
    backbone = BACKBONES[kind]
    inner.require("out_features", [f"stage{number}" for number in range(1, 5)])
    inner.require("out_indices", [1, 2, 3, 4])
    options |= backbone.options(inner)
    names, channels = class_names(settings), inner.count("num_channels", 3)
    settings.take("backbone_hidden_size")
    refuse_others(settings)
    refuse_others(inner)
    return Layout("upernet", options, len(names), channels, functools.partial(_convert, backbone), names)


def head_options(settings: Settings) -> dict[str, Any]:
    """Returns the options of the heads, apart from their channels.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    settings.require("pool_scales", (1, 2, 3, 6))
    if settings.take("use_auxiliary_head", True):
        settings.require("auxiliary_num_convs", 1)
        settings.require("auxiliary_concat_input", False)
        channels = settings.count("auxiliary_channels", 256)
        return {"align_corners": False, "auxiliary_head": True, "auxiliary_channels": channels}
    for key in ("auxiliary_num_convs", "auxiliary_concat_input", "auxiliary_channels"):
        settings.take(key)
    return {"align_corners": False}


def _convert(backbone: Backbone, model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    return convert_tensors(backbone.prepare(tensors), (*backbone.names, *FEATURE_NAMES, *head_names("batch_norm")))
