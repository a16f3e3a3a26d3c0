"""BEiT with a segmentation head in the layout of transformers."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.encoders.beit import PATCH
from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.configuration import (
    class_names,
    encoder_of,
    positive_number,
    refuse_others,
)
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated
from flaxseg.models.pretrained.transformers_layout.upernet import head_names, head_options

_LAYER = r"beit\.encoder\.layer\.(\d+)\."

_NAMES: TorchNames = (
    (r"beit\.embeddings\.patch_embeddings\.projection", "encoder/stem"),
    (r"beit\.embeddings\.cls_token", "encoder/class_token"),
    *(
        (rf"{_LAYER}{theirs}", rf"encoder/block\1/{ours}")
        for theirs, ours in (
            ("layernorm_before", "norm1"),
            (r"attention\.attention\.qkv", "attention/qkv"),
            (r"attention\.attention\.query_bias", "attention/query_bias"),
            (r"attention\.attention\.value_bias", "attention/value_bias"),
            (
                r"attention\.attention\.relative_position_bias\.relative_position_bias_table",
                "attention/bias_table",
            ),
            (r"attention\.output\.dense", "attention/proj"),
            ("lambda_1", "gamma1"),
            ("layernorm_after", "norm2"),
            (r"intermediate\.dense", "expand"),
            (r"output\.dense", "project"),
            ("lambda_2", "gamma2"),
        )
    ),
    # Computed from the size of an image, used for masked images, or applied to what a classifier is given.
    (rf"{_LAYER}attention\.attention\.relative_position_bias\.relative_position_index", None),
    (r"beit\.embeddings\.mask_token", None),
    (r"beit\.(pooler\.)?layernorm", None),
    (r"fpn1\.0", "encoder/pyramid/quadruple1:transposed"),
    (r"fpn1\.1", "encoder/pyramid/norm"),
    (r"fpn1\.3", "encoder/pyramid/quadruple2:transposed"),
    (r"fpn2\.0", "encoder/pyramid/double:transposed"),
    *head_names("bn"),
)


def read_beit(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` beit describes.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    settings.require("patch_size", PATCH)
    settings.require("hidden_act", "gelu")
    settings.require("use_relative_position_bias", True)
    settings.require("use_shared_relative_position_bias", False)
    settings.require("use_absolute_position_embeddings", False)
    width = settings.count("hidden_size", 768)
    settings.require("intermediate_size", 4 * width)
    sizes = {
        "hidden_size": (lambda encoder: encoder.width, 768),
        "num_hidden_layers": (lambda encoder: encoder.blocks, 12),
        "num_attention_heads": (lambda encoder: encoder.heads, 12),
        "image_size": (lambda encoder: encoder.window * PATCH, 224),
        # Transformers counts the input of the first block as 1.
        "out_indices": (
            lambda encoder: [number + 1 for number in encoder.feature_blocks],
            settings.take("segmentation_indices"),
        ),
    }
    options = {
        "encoder": encoder_of(settings, "beit_", sizes),
        "encoder_epsilon": positive_number(settings, "layer_norm_eps", 1e-12),
        "decoder_channels": width,
        "normalize_features": False,
        **head_options(settings),
    }
    names, channels = class_names(settings), settings.count("num_channels", 3)
    # Of other types of networks with this encoder; the features are named by out_indices, too.
    for key in ("add_fpn", "out_features", "reshape_hidden_states", "use_mask_token", "use_mean_pooling", "vocab_size"):
        settings.take(key)
    refuse_others(settings)
    return Layout("upernet", options, len(names), channels, _convert, names)


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    blocks = model.encoder.feature_blocks[-1]
    used = {
        # These are arrays of the attention here, whose layers have no biases otherwise.
        re.sub(r"\.(query|value)\.bias$", r".\1_bias", name): value
        for name, value in tensors.items()
        if not ((match := re.match(_LAYER, name)) and int(match[1]) >= blocks)
    }
    return convert_tensors(concatenated(used, ("query", "key", "value"), "qkv"), _NAMES)
