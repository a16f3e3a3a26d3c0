"""Mask2Former with a Swin backbone in the layout of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors
from flaxseg.models.pretrained.transformers_layout.configuration import TYPE_KEY, class_names, refuse_others
from flaxseg.models.pretrained.transformers_layout.swin import SWIN
from flaxseg.models.pretrained.transformers_layout.upernet import FEATURE_NAMES

_BACKBONE = "model.pixel_level_module.encoder."
_PIXELS = r"model\.pixel_level_module\.decoder\."
_QUERIES = r"model\.transformer_module\."

_NAMES: TorchNames = (
    *(
        (rf"{_PIXELS}{theirs}", rf"decoder/pixels/{ours}")
        for theirs, ours in (
            (r"input_projections\.(\d)\.0", r"project\1"),
            (r"input_projections\.(\d)\.1", r"norm\1"),
            ("level_embed", "level_embedding"),
            (r"adapter_1\.0", "lateral"),
            (r"adapter_1\.1", "lateral_norm"),
            (r"layer_1\.0", "smooth"),
            (r"layer_1\.1", "smooth_norm"),
            ("mask_projection", "mask_features"),
        )
    ),
    *(
        (rf"{_PIXELS}encoder\.layers\.(\d+)\.{theirs}", rf"decoder/pixels/layer\1/{ours}")
        for theirs, ours in (
            (r"self_attn\.sampling_offsets", "attention/offsets"),
            (r"self_attn\.attention_weights", "attention/weights"),
            (r"self_attn\.value_proj", "attention/value"),
            (r"self_attn\.output_proj", "attention/proj"),
            ("self_attn_layer_norm", "norm1"),
            ("fc1", "mlp/dense0"),
            ("fc2", "mlp/dense1"),
            ("final_layer_norm", "norm2"),
        )
    ),
    *(
        (rf"{_QUERIES}decoder\.layers\.(\d+)\.{theirs}", rf"decoder/queries/layer\1/{ours}")
        for theirs, ours in (
            (r"cross_attn\.([qkv])", r"cross/\2"),
            (r"cross_attn\.out_proj", "cross/proj"),
            ("cross_attn_layer_norm", "norm1"),
            (r"self_attn\.([qkv])_proj", r"self/\2"),
            (r"self_attn\.out_proj", "self/proj"),
            ("self_attn_layer_norm", "norm2"),
            ("fc1", "mlp/dense0"),
            ("fc2", "mlp/dense1"),
            ("final_layer_norm", "norm3"),
        )
    ),
    (rf"{_QUERIES}decoder\.layernorm", "decoder/queries/norm"),
    (rf"{_QUERIES}decoder\.mask_predictor\.mask_embedder\.(\d)\.0", r"decoder/queries/mask_mlp/dense\1"),
    # The names of these tensors have lost their ending, because they are no kernels.
    (rf"{_QUERIES}level_embed", "decoder/queries/level_embedding"),
    (rf"{_QUERIES}queries_embedder", "decoder/queries/position"),
    (rf"{_QUERIES}queries_features", "decoder/queries/feature"),
    ("class_predictor", "decoder/queries/class_head"),
    # The weights of classes in the loss.
    (r"criterion\.empty_weight", None),
)

_EMBEDDINGS = tuple(
    f"model.transformer_module.{name}.weight" for name in ("level_embed", "queries_embedder", "queries_features")
)


def read_mask2former(settings: Settings) -> Layout:
    """Returns the network that a configuration of `model_type` mask2former describes.

    Raises:
      WeightsError: an option that has no counterpart here.
    """
    channels = settings.count("hidden_dim", 256)
    settings.require("feature_size", channels)
    settings.require("mask_feature_size", channels)
    settings.require("activation_function", "relu")
    settings.require("pre_norm", False)
    settings.require("enforce_input_projection", False)
    settings.require("common_stride", 4)
    settings.require("feature_strides", (4, 8, 16, 32))
    options = {
        "decoder_channels": channels,
        "queries": settings.count("num_queries", 100),
        "heads": settings.count("num_attention_heads", 8),
        "pixel_layers": settings.count("encoder_layers", 6),
        # The first of them is the prediction before any layer.
        "query_layers": settings.count("decoder_layers", 10) - 1,
        "pixel_mlp_channels": settings.count("encoder_feedforward_dim", 1024),
        "query_mlp_channels": settings.count("dim_feedforward", 2048),
        "align_corners": False,
    }
    backbone = Settings(settings.take("backbone_config"), f"{settings.name}: backbone_config")
    backbone.require(TYPE_KEY, "swin")
    backbone.require("out_features", [f"stage{number}" for number in range(1, 5)])
    backbone.require("out_indices", [1, 2, 3, 4])
    options |= SWIN.options(backbone)
    names, image_channels = class_names(settings), backbone.count("num_channels", 3)
    refuse_others(backbone)
    for key in _OF_TRAINING:
        settings.take(key)
    refuse_others(settings)
    return Layout("mask2former", options, len(names), image_channels, _convert, names)


_OF_TRAINING = (
    "backbone_type", "class_weight", "dice_weight", "dropout", "ignore_value", "importance_sample_ratio", "init_std",
    "init_xavier_std", "mask_weight", "no_object_weight", "num_hidden_layers", "output_auxiliary_logits",
    "oversample_ratio", "train_num_points", "use_auxiliary_loss",
)  # fmt: skip
"""Keys of the loss, and of how a network is initialized."""


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    found: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if name.startswith(_BACKBONE):
            found["backbone." + name.removeprefix(_BACKBONE)] = value
        elif ".cross_attn.in_proj_" in name:
            layer, _, leaf = name.partition("in_proj_")
            found |= {f"{layer}{part}.{leaf}": each for part, each in zip("qkv", np.split(value, 3), strict=True)}
        else:
            found[name.removesuffix(".weight") if name in _EMBEDDINGS else name] = value
    return convert_tensors(SWIN.prepare(found), (*SWIN.names, *FEATURE_NAMES, *_NAMES))
