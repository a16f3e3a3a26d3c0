"""SegFormer in the layout of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.encoders.mix_transformer import HEADS, REDUCTIONS
from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.configuration import class_names, encoder_of, refuse_others
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated

_NAMES: TorchNames = (
    *((rf"segformer\.encoder\.patch_embeddings\.{i}\.proj", f"encoder/stage{i + 1}_embed/conv") for i in range(4)),
    *(
        (rf"segformer\.encoder\.patch_embeddings\.{i}\.layer_norm", f"encoder/stage{i + 1}_embed/norm")
        for i in range(4)
    ),
    *(
        (rf"segformer\.encoder\.block\.{i}\.(\d+)\.{theirs}", rf"encoder/stage{i + 1}_block\1/{ours}")
        for i in range(4)
        for theirs, ours in (
            (r"layer_norm_1", "norm1"),
            (r"layer_norm_2", "norm2"),
            (r"attention\.self\.query", "attention/q"),
            (r"attention\.self\.key_value", "attention/kv"),
            (r"attention\.self\.sr", "attention/reduce"),
            (r"attention\.self\.layer_norm", "attention/norm"),
            (r"attention\.output\.dense", "attention/proj"),
            (r"mlp\.dense1", "mlp/expand"),
            (r"mlp\.dwconv\.dwconv", "mlp/depthwise"),
            (r"mlp\.dense2", "mlp/project"),
        )
    ),
    *((rf"segformer\.encoder\.layer_norm\.{i}", f"encoder/stage{i + 1}_norm") for i in range(4)),
    *((rf"decode_head\.linear_c\.{i}\.proj", f"decoder/linear{3 - i}") for i in range(4)),
    (r"decode_head\.linear_fuse", "decoder/fuse/conv"),
    (r"decode_head\.batch_norm", "decoder/fuse/norm"),
    (r"decode_head\.classifier", "head"),
)


def read_segformer(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` segformer describes.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    settings.require("num_encoder_blocks", 4)
    settings.require("sr_ratios", REDUCTIONS)
    settings.require("num_attention_heads", HEADS)
    settings.require("patch_sizes", (7, 3, 3, 3))
    settings.require("strides", (4, 2, 2, 2))
    settings.require("mlp_ratios", (4, 4, 4, 4))
    settings.require("hidden_act", "gelu")
    settings.require("reshape_last_stage", True)
    sizes = {
        "hidden_sizes": (lambda encoder: encoder.widths, (32, 64, 160, 256)),
        "depths": (lambda encoder: encoder.blocks, (2, 2, 2, 2)),
    }
    options = {
        "encoder": encoder_of(settings, "mit_b", sizes),
        "decoder_channels": settings.count("decoder_hidden_size", 256),
        "encoder_epsilon": 1e-5,
        "align_corners": False,
    }
    names, channels = class_names(settings), settings.count("num_channels", 3)
    refuse_others(settings)
    return Layout("segformer", options, len(names), channels, _convert, names)


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    return convert_tensors(concatenated(tensors, ("key", "value"), "key_value"), _NAMES)
