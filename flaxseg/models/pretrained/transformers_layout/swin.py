"""Swin Transformer as a backbone in the layout of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.encoders.swin import EPSILON
from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.torch_names import TorchNames
from flaxseg.models.pretrained.transformers_layout.backbone import Backbone
from flaxseg.models.pretrained.transformers_layout.configuration import encoder_of
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated

_NAMES: TorchNames = (
    (r"backbone\.embeddings\.patch_embeddings\.projection", "encoder/stem/conv"),
    (r"backbone\.embeddings\.norm", "encoder/stem/norm"),
    # Patches are merged before a stage here, and after the previous stage there.
    *(
        (rf"backbone\.encoder\.layers\.{stage}\.downsample\.{theirs}", f"encoder/stage{stage + 1}_merge/{ours}")
        for stage in range(3)
        for theirs, ours in (("norm", "norm"), ("reduction", "reduce"))
    ),
    *(
        (rf"backbone\.encoder\.layers\.(\d)\.blocks\.(\d+)\.{theirs}", rf"encoder/stage\1_block\2/{ours}")
        for theirs, ours in (
            ("layernorm_before", "norm1"),
            (r"attention\.self\.qkv", "attention/qkv"),
            (r"attention\.self\.relative_position_bias_table", "attention/bias_table"),
            (r"attention\.output\.dense", "attention/proj"),
            ("layernorm_after", "norm2"),
            (r"intermediate\.dense", "expand"),
            (r"output\.dense", "project"),
        )
    ),
    # Computed from the size of a window, and of the feature that a classifier is applied to.
    (r"backbone\.encoder\.layers\.\d\.blocks\.\d+\.attention\.self\.relative_position_index", None),
    (r"backbone\.(swin\.)?layernorm", None),
)


def _options(settings: Settings) -> dict[str, Any]:
    settings.require("patch_size", 4)
    settings.require("mlp_ratio", 4.0)
    settings.require("qkv_bias", True)
    settings.require("hidden_act", "gelu")
    settings.require("layer_norm_eps", EPSILON)
    settings.require("use_absolute_embeddings", False)
    sizes = {
        "embed_dim": (lambda encoder: encoder.width, 96),
        "depths": (lambda encoder: encoder.blocks, (2, 2, 6, 2)),
        "num_heads": (lambda encoder: encoder.heads, (3, 6, 12, 24)),
        "window_size": (lambda encoder: encoder.window, 7),
    }
    # These follow from the sizes, and the stride is that of another type of network.
    for key in ("num_layers", "hidden_size", "encoder_stride", "path_norm"):
        settings.take(key)
    return {"encoder": encoder_of(settings, "swin_", sizes), "feature_epsilon": 1e-5}


def _prepare(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return concatenated(tensors, ("query", "key", "value"), "qkv")


SWIN = Backbone(_options, _NAMES, _prepare)
