"""DPT with a plain vision transformer in the layout of transformers."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.decoders.dpt import READOUTS
from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.configuration import (
    class_names,
    encoder_of,
    positive_number,
    refuse_others,
)
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated

_LAYER = r"dpt\.encoder\.layer\.(\d+)\."
_STAGE = r"neck\.reassemble_stage\."
_FUSION = r"neck\.fusion_stage\.layers\.(\d)\."

_NAMES: TorchNames = (
    (r"dpt\.embeddings\.patch_embeddings\.projection", "encoder/patch_embed"),
    (r"dpt\.embeddings\.cls_token", "encoder/class_token"),
    (r"dpt\.embeddings\.position_embeddings", "encoder/positions"),
    *(
        (rf"{_LAYER}{theirs}", rf"encoder/block\1/{ours}")
        for theirs, ours in (
            ("layernorm_before", "norm1"),
            (r"attention\.attention\.qkv", "attention/qkv"),
            (r"attention\.output\.dense", "attention/proj"),
            ("layernorm_after", "norm2"),
            (r"intermediate\.dense", "mlp/expand"),
            (r"output\.dense", "mlp/project"),
        )
    ),
    (rf"{_STAGE}readout_projects\.(\d)\.0", r"decoder/readout\1"),
    (rf"{_STAGE}layers\.(\d)\.projection", r"decoder/project\1"),
    (rf"{_STAGE}layers\.([01])\.resize", r"decoder/resize\1:transposed"),
    (rf"{_STAGE}layers\.3\.resize", "decoder/resize3"),
    (r"neck\.convs\.(\d)", r"decoder/neck\1"),
    # The coarsest feature has nothing to be added to.
    (r"neck\.fusion_stage\.layers\.0\.residual_layer1\..*", None),
    (rf"{_FUSION}projection", r"decoder/fusion\1_project"),
    *(
        (rf"{_FUSION}residual_layer{layer}\.{theirs}(\d)", rf"decoder/fusion\1_{name}/conv\2/{ours}")
        for layer, name in ((1, "skip"), (2, "unit"))
        for theirs, ours in (("convolution", "conv"), ("batch_norm", "norm"))
    ),
    (r"head\.head\.0", "decoder/refine/conv"),
    (r"head\.head\.1", "decoder/refine/norm"),
    (r"head\.head\.4", "head"),
    # Used in training only, or for depth.
    (r"auxiliary_head\..*|dpt\.layernorm|dpt\.pooler\..*", None),
)


def read_dpt(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` dpt describes.

    Raises:
      WeightsError: an option that has no counterpart here, such as a hybrid encoder.
    """
    for key, allowed in (
        ("is_hybrid", False),
        ("backbone", None),
        ("backbone_config", None),
        ("hidden_act", "gelu"),
        ("qkv_bias", True),
        ("reassemble_factors", (4, 2, 1, 0.5)),
        ("head_in_index", -1),
    ):
        settings.require(key, allowed)
    width = settings.count("hidden_size", 768)
    settings.require("intermediate_size", 4 * width)
    sizes = {
        "hidden_size": (lambda encoder: encoder.width, 768),
        "num_hidden_layers": (lambda encoder: encoder.blocks, 12),
        "num_attention_heads": (lambda encoder: encoder.heads, 12),
        "image_size": (lambda encoder: encoder.grid * encoder.patch, 384),
        "patch_size": (lambda encoder: encoder.patch, 16),
    }
    options = {
        "encoder": encoder_of(settings, "vit_", sizes),
        "encoder_epsilon": positive_number(settings, "layer_norm_eps", 1e-12),
        "feature_blocks": tuple(index + 1 for index in _integers(settings, "backbone_out_indices", (2, 5, 8, 11), 0)),
        "readout": _readout(settings),
        "neck_channels": _integers(settings, "neck_hidden_sizes", (96, 192, 384, 768), 1),
        "fusion_channels": settings.count("fusion_hidden_size", 256),
        "batch_norm": _batch_norm(settings),
        "dropout": float(settings.take("semantic_classifier_dropout", 0.1)),
    }
    has_auxiliary = settings.take("use_auxiliary_head", True)
    notes = ("the auxiliary head, which predictions do not use, is not loaded",) if has_auxiliary else ()
    names, channels = class_names(settings), settings.count("num_channels", 3)
    # Of the hybrid encoder, of depth estimation, and of the encoder's use as a classifier.
    for key in ("backbone_featmap_shape", "neck_ignore_stages", "add_projection", "pooler_act", "pooler_output_size"):
        settings.take(key)
    settings.take("backbone_out_features")
    refuse_others(settings)
    return Layout("dpt", options, len(names), channels, _convert, names, notes)


def _integers(settings: Settings, key: str, default: tuple[int, ...], lowest: int) -> tuple[int, ...]:
    """Returns the four integers of a key.

    Raises:
      WeightsError: it is something else.
    """
    value = settings.take(key, default)
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 4 or any(isinstance(n, bool) or not isinstance(n, int) or n < lowest for n in numbers):
        raise settings.error(key, value, f"must be four integers of at least {lowest}")
    return tuple(numbers)


def _readout(settings: Settings) -> str:
    value = settings.text("readout_type", "project")
    if value not in READOUTS:
        raise settings.error("readout_type", value, f"is not supported; supported are {', '.join(READOUTS)}")
    return value


def _batch_norm(settings: Settings) -> bool:
    """Returns whether the fusion normalizes, in which case its convolutions must have no biases."""
    normalizes = bool(settings.take("use_batch_norm_in_fusion_residual", False))
    has_bias = settings.take("use_bias_in_fusion_residual")
    if has_bias is not None and has_bias == normalizes:
        raise settings.error(
            "use_bias_in_fusion_residual",
            has_bias,
            f"is not supported with use_batch_norm_in_fusion_residual = {normalizes}",
        )
    return normalizes


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    blocks = model.encoder.taken[-1]
    used = {
        name: value
        for name, value in tensors.items()
        if not ((match := re.match(_LAYER, name)) and int(match[1]) >= blocks)
    }
    return convert_tensors(concatenated(used, ("query", "key", "value"), "qkv"), _NAMES)
