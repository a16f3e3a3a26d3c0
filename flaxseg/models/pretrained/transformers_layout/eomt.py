"""EoMT in the layout of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.configuration import (
    class_names,
    encoder_of,
    positive_number,
    refuse_others,
)
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated

_NAMES: TorchNames = (
    (r"embeddings\.patch_embeddings\.projection", "encoder/patch_embed"),
    (r"embeddings\.cls_token", "encoder/class_token"),
    (r"embeddings\.register_tokens", "encoder/registers"),
    (r"embeddings\.positions", "encoder/positions"),
    *(
        (rf"layers\.(\d+)\.{theirs}", rf"encoder/block\1/{ours}")
        for theirs, ours in (
            (r"norm(\d)", r"norm\2"),
            (r"attention\.qkv", "attention/qkv"),
            (r"attention\.out_proj", "attention/proj"),
            (r"layer_scale(\d)\.lambda1", r"scale\2"),
            (r"mlp\.fc1", "mlp/expand"),
            (r"mlp\.fc2", "mlp/project"),
        )
    ),
    (r"layernorm", "encoder/norm"),
    (r"queries", "decoder/queries"),
    (r"upscale_block\.block\.(\d+)\.conv1", r"decoder/upscale\1/conv:transposed"),
    (r"upscale_block\.block\.(\d+)\.conv2", r"decoder/upscale\1/depthwise"),
    (r"upscale_block\.block\.(\d+)\.layernorm2d", r"decoder/upscale\1/norm"),
    *((rf"mask_head\.fc{number + 1}", f"decoder/mask{number}") for number in range(3)),
    (r"class_predictor", "decoder/class_head"),
    (r"attn_mask_probs|criterion\.empty_weight", None),
)

_OF_TRAINING = (
    "attention_dropout", "class_weight", "dice_weight", "importance_sample_ratio", "layerscale_value", "mask_weight",
    "no_object_weight", "oversample_ratio", "train_num_points",
)  # fmt: skip

_MASKING = "attn_mask_probs"


def read_eomt(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` eomt describes.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    settings.require("hidden_act", "gelu")
    settings.require("mlp_ratio", 4)
    settings.require("use_swiglu_ffn", False)
    sizes = {
        "hidden_size": (lambda encoder: encoder.width, 1024),
        "num_hidden_layers": (lambda encoder: encoder.blocks, 24),
        "num_attention_heads": (lambda encoder: encoder.heads, 16),
        "num_register_tokens": (lambda encoder: 0 if encoder.class_position else encoder.registers, 4),
    }
    patch, side = settings.count("patch_size", 16), settings.count("image_size", 640)
    options = {
        "encoder": encoder_of(settings, "vit_", sizes),
        "encoder_epsilon": positive_number(settings, "layer_norm_eps", 1e-6),
        "queries": settings.count("num_queries", 200),
        "blocks": settings.count("num_blocks", 4),
        "upscalings": settings.count("num_upscale_blocks", 2),
        "patch": patch,
        "grid": side // patch,
    }
    names, channels = class_names(settings), settings.count("num_channels", 3)
    for key in _OF_TRAINING:
        settings.take(key)
    refuse_others(settings)
    return Layout("eomt", options, len(names), channels, _convert, names, tile=(side, side))


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    if np.any(tensors.get(_MASKING, np.zeros(1)) > 0):
        raise WeightsError(
            f"{_MASKING} is not 0, so that transformers would mask the attention of the queries, which is not "
            "supported; train the network to the end, or set it to 0"
        )
    found = concatenated(tensors, ("q_proj", "k_proj", "v_proj"), "qkv")
    # Tables of embeddings are arrays of tokens here.
    for table, name in (("embeddings.position_embeddings", "embeddings.positions"), ("query", "queries")):
        if f"{table}.weight" in found:
            found[name] = found.pop(f"{table}.weight")[None]
    return convert_tensors(found, _NAMES)
