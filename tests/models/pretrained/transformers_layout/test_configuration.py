"""Every option of transformers that changes a network is mapped or refused by name."""

import pytest
from public_repositories import SEGFORMER
from transformers_networks import BEIT, CONVNEXT, DPT, EOMT, MASK2FORMER, SWIN, UPERNET, read

from flaxseg.errors import WeightsError

REFUSED = {
    "is_hybrid": (DPT, True, "only False is"),
    "backbone_config": (DPT, {"model_type": "dinov2"}, "only None is"),
    "reassemble_factors": (DPT, [4, 2, 1, 1], "only (4, 2, 1, 0.5) is"),
    "readout_type": (DPT, "mean", "supported are project, add, ignore"),
    "use_bias_in_fusion_residual": (DPT, False, "is not supported with use_batch_norm_in_fusion_residual = False"),
    "neck_hidden_sizes": (DPT, [1, 2, 3], "must be four integers of at least 1"),
    "use_swiglu_ffn": (EOMT, True, "only False is"),
    "mlp_ratio": (EOMT, 2, "only 4 is"),
    "pre_norm": (MASK2FORMER, True, "only False is"),
    "feature_size": (MASK2FORMER, 128, "only 256 is"),
    "common_stride": (MASK2FORMER, 8, "only 4 is"),
    "use_absolute_position_embeddings": (BEIT, True, "only False is"),
    "use_shared_relative_position_bias": (BEIT, True, "only False is"),
    "intermediate_size": (BEIT, 1024, "only 3072 is"),
    "layer_norm_eps": (BEIT, 0, "must be a number above 0"),
    "hidden_size and num_hidden_layers and num_attention_heads and image_size and out_indices": (
        BEIT,
        [3, 5, 7, 12],
        "there are beit_base_patch16_224",
    ),
    "model_type": (SEGFORMER, "oneformer", "supported are segformer, upernet"),
    "architectures": (SEGFORMER, ["SegformerForImageClassification"], "is not a network for segmentation"),
    "sr_ratios": (SEGFORMER, [8, 4, 2, 2], "only (8, 4, 2, 1) is"),
    "strides": (SEGFORMER, [2, 2, 2, 2], "only (4, 2, 2, 2) is"),
    "hidden_act": (SEGFORMER, "relu", "only 'gelu' is"),
    "reshape_last_stage": (SEGFORMER, False, "only True is"),
    "hidden_sizes and depths": (SEGFORMER, None, "there are mit_b0"),
    "id2label": (SEGFORMER, {"0": "a", "2": "b"}, "must name the classes 0, 1, ..."),
    "encoder_global_pool": (SEGFORMER, "avg", "is not supported, and could change the outputs"),
    "pool_scales": (UPERNET, [1, 2, 3], "only (1, 2, 3, 6) is"),
    "auxiliary_num_convs": (UPERNET, 2, "only 1 is"),
    "backbone_config: model_type": (UPERNET, {"model_type": "resnet"}, "supported are convnext"),
    "backbone_config: use_absolute_embeddings": (UPERNET, {**SWIN, "use_absolute_embeddings": True}, "only False is"),
    "backbone_config: layer_norm_eps": (UPERNET, {**SWIN, "layer_norm_eps": 1e-6}, "only 1e-05 is"),
    "backbone_config: embed_dim and depths and num_heads and window_size": (
        UPERNET,
        {**SWIN, "window_size": 8},
        "there are swin_tiny_patch4_window7_224",
    ),
    "backbone_config: num_stages": (MASK2FORMER, {**SWIN, "num_stages": 3}, "is not supported, and could change"),
    "backbone_config: out_features": (UPERNET, {**CONVNEXT, "out_features": ["stage4"]}, "is not supported"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(key):
    config, value, says = REFUSED[key]
    # Of several keys, the last is the one that is changed.
    name = key.partition(":")[0].rpartition(" ")[2]
    with pytest.raises(WeightsError, match=rf"^repo: config.json: {key} = ") as caught:
        read(config, **{name: [1, 1, 1, 1] if value is None else value})
    assert says in str(caught.value)


def test_two_classes_without_names_have_those_of_transformers():
    unnamed = {key: value for key, value in DPT.items() if key != "id2label"}
    assert read(unnamed).class_names == ("LABEL_0", "LABEL_1")
