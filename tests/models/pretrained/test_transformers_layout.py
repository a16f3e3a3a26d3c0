"""Every option of transformers that changes a network is mapped or refused by name."""

import functools
import re

import jax
import numpy as np
import pytest
from compare import loaded
from flax import traverse_util
from public_repositories import SEGFORMER, segformer_tensors, smp_tensors

from flaxseg.errors import WeightsError
from flaxseg.models import build_model
from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.transformers_layout import read_transformers
from flaxseg.models.pretrained.transformers_layout.tensors import concatenated

BACKBONE = {
    "model_type": "convnext",
    "depths": [3, 3, 9, 3],
    "hidden_sizes": [96, 192, 384, 768],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SWIN = {
    "model_type": "swin",
    "depths": [2, 2, 6, 2],
    "embed_dim": 96,
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "mlp_ratio": 4.0,
    "encoder_stride": 32,
    "num_layers": 4,
    "hidden_size": 768,
    "image_size": 224,
}
BEIT = {
    "architectures": ["BeitForSemanticSegmentation"],
    "model_type": "beit",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 640,
    "patch_size": 16,
    "use_relative_position_bias": True,
    "out_indices": [3, 5, 7, 11],
    "auxiliary_channels": 16,
    "use_mean_pooling": True,
    "vocab_size": 8192,
    "id2label": {"0": "a", "1": "b"},
}
MASK2FORMER = {
    "architectures": ["Mask2FormerForUniversalSegmentation"],
    "model_type": "mask2former",
    "backbone_config": SWIN,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 7,
    "feature_strides": [4, 8, 16, 32],
    "class_weight": 2.0,
    "id2label": {"0": "a", "1": "b"},
}
UPERNET = {
    "architectures": ["UperNetForSemanticSegmentation"],
    "model_type": "upernet",
    "backbone_config": BACKBONE,
    "hidden_size": 32,
    "auxiliary_channels": 16,
    "id2label": {"0": "a", "1": "b"},
}


def read(config, **changes):
    return read_transformers(Settings({**config, **changes}, "repo: config.json"))


def test_a_segformer_has_the_arrays_that_the_same_one_of_another_library_has():
    layout = read(SEGFORMER)
    model = build_model(layout.name, num_classes=3, **layout.options)
    arrays, unknown = layout.convert(model, segformer_tensors())
    expected = traverse_util.flatten_dict(loaded(model, smp_tensors("segformer", "mit_b0")), sep="/")
    assert not unknown and arrays.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(arrays[path], value, err_msg=path)
    assert (layout.class_names, model.align_corners, model.encoder.epsilon) == (
        ("road", "building", "sky"),
        False,
        1e-5,
    )


def test_an_upernet_is_mapped_with_its_auxiliary_head():
    layout = read(UPERNET)
    assert layout.options == {
        "encoder": "convnext_tiny",
        "decoder_channels": 32,
        "align_corners": False,
        "auxiliary_head": True,
        "auxiliary_channels": 16,
    }
    assert "auxiliary_head" not in read(UPERNET, use_auxiliary_head=False).options


def upernet_tensor_names(backbone):
    """Returns the names of the tensors of an UPerNet, given the names of the modules of its backbone."""
    conv = ["conv.weight"]
    norm = [f"batch_norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    blocks = ["bottleneck", "fpn_bottleneck", *(f"psp_modules.{i}.1" for i in range(4))]
    blocks += [f"{kind}.{i}" for kind in ("lateral_convs", "fpn_convs") for i in range(3)]
    names = [f"decode_head.{block}.{leaf}" for block in blocks for leaf in conv + norm]
    names += [f"auxiliary_head.convs.0.{leaf}" for leaf in conv + norm]
    heads = ("decode_head.classifier", "auxiliary_head.classifier")
    modules = [f"backbone.hidden_states_norms.stage{i}" for i in range(1, 5)]
    modules += [f"backbone.{module}" for module in backbone]
    return names + [f"{module}.{leaf}" for module in (*heads, *modules) for leaf in ("weight", "bias")]


def convnext_tensor_names():
    modules, names = ["embeddings.patch_embeddings", "embeddings.layernorm"], []
    for stage, depth in enumerate(BACKBONE["depths"]):
        modules += [f"encoder.stages.{stage}.downsampling_layer.{i}" for i in (0, 1)] if stage else []
        layers = ("dwconv", "layernorm", "pwconv1", "pwconv2")
        modules += [f"encoder.stages.{stage}.layers.{i}.{layer}" for i in range(depth) for layer in layers]
        names += [f"backbone.encoder.stages.{stage}.layers.{i}.layer_scale_parameter" for i in range(depth)]
    return upernet_tensor_names(modules) + names


def swin_tensor_names():
    modules, names = swin_names()
    return upernet_tensor_names(modules) + names


def swin_names():
    """Returns the names of the modules with weights and biases, and of further tensors."""
    modules, names = ["embeddings.patch_embeddings.projection", "embeddings.norm", "swin.layernorm"], []
    for stage, depth in enumerate(SWIN["depths"]):
        if stage < 3:
            modules.append(f"encoder.layers.{stage}.downsample.norm")
            names.append(f"backbone.encoder.layers.{stage}.downsample.reduction.weight")
        for block in (f"encoder.layers.{stage}.blocks.{i}" for i in range(depth)):
            layers = [f"attention.self.{part}" for part in ("query", "key", "value")]
            layers += ["layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"]
            modules += [f"{block}.{layer}" for layer in (*layers, "attention.output.dense")]
            buffers = ("relative_position_bias_table", "relative_position_index")
            names += [f"backbone.{block}.attention.self.{buffer}" for buffer in buffers]
    return modules, names


@pytest.mark.parametrize(("backbone", "names"), [("convnext", convnext_tensor_names), ("swin", swin_tensor_names)])
def test_the_tensors_of_an_upernet_fill_every_array(backbone, names):
    layout = read(UPERNET, backbone_config={"convnext": BACKBONE, "swin": SWIN}[backbone])
    model = build_model("upernet", num_classes=2, **layout.options)
    arrays, unknown = layout.convert(model, {name: np.zeros(_shape(name)) for name in names()})
    assert not unknown and arrays.keys() == arrays_of(model)


def arrays_of(model):
    """Returns the paths of a network's arrays."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    return set(
        traverse_util.flatten_dict({key: shapes[key] for key in ("params", "batch_stats") if key in shapes}, sep="/")
    )


def test_a_swin_backbone_has_the_normalization_of_its_library_and_its_size():
    assert read(UPERNET, backbone_config=SWIN).options == {
        "encoder": "swin_tiny_patch4_window7_224",
        "decoder_channels": 32,
        "align_corners": False,
        "auxiliary_head": True,
        "auxiliary_channels": 16,
        "feature_epsilon": 1e-5,
    }
    large = {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12}
    assert read(UPERNET, backbone_config=SWIN | large).options["encoder"] == "swin_large_patch4_window12_384"


def test_a_beit_is_an_upernet_without_normalization_of_its_features():
    expected = {
        "encoder": "beit_base_patch16_640",
        "encoder_epsilon": 1e-12,
        "decoder_channels": 768,
        "normalize_features": False,
        "align_corners": False,
        "auxiliary_head": True,
        "auxiliary_channels": 16,
    }
    layout = read(BEIT)
    assert (layout.name, layout.options) == ("upernet", expected)
    old = {key: value for key, value in BEIT.items() if key != "out_indices"} | {"segmentation_indices": [3, 5, 7, 11]}
    assert read(old).options == expected


def test_the_tensors_of_a_beit_fill_every_array():
    layout = read(BEIT)
    model = build_model("upernet", num_classes=2, **layout.options)
    shapes = {"beit.embeddings.cls_token": (1,), "fpn1.1.weight": (1,)}
    names = [name.replace("batch_norm", "bn") for name in upernet_tensor_names([]) if "hidden_states" not in name]
    modules = ["beit.embeddings.patch_embeddings.projection", "fpn1.0", "fpn1.3", "fpn2.0"]
    for number in range(12):
        layer = f"beit.encoder.layer.{number}"
        inner = ["attention.attention.query", "attention.attention.value", "attention.output.dense"]
        inner += ["intermediate.dense", "output.dense", "layernorm_before", "layernorm_after"]
        modules += [f"{layer}.{module}" for module in inner]
        names += [f"{layer}.attention.attention.key.weight", f"{layer}.lambda_1", f"{layer}.lambda_2"]
        bias = f"{layer}.attention.attention.relative_position_bias"
        names += [f"{bias}.relative_position_bias_table", f"{bias}.relative_position_index"]
    names += [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    names += [f"fpn1.1.{leaf}" for leaf in ("bias", "running_mean", "running_var", "num_batches_tracked")]
    tensors = {name: np.zeros(_shape(name)) for name in names}
    arrays, unknown = layout.convert(model, tensors | {name: np.zeros(shape) for name, shape in shapes.items()})
    # The features are those of blocks 2, 4, 6 and 10, so that the last two layers are not used.
    assert not unknown and arrays.keys() == arrays_of(model)


def test_a_mask2former_has_a_layer_less_than_predictions():
    assert read(MASK2FORMER).options == {
        "encoder": "swin_tiny_patch4_window7_224",
        "decoder_channels": 256,
        "queries": 7,
        "heads": 8,
        "pixel_layers": 1,
        "query_layers": 1,
        "pixel_mlp_channels": 1024,
        "query_mlp_channels": 2048,
        "align_corners": False,
        "feature_epsilon": 1e-5,
    }


def test_the_tensors_of_a_mask2former_fill_every_array():
    layout = read(MASK2FORMER)
    model = build_model("mask2former", num_classes=2, **layout.options)
    backbone, names = swin_names()
    backbone += [f"hidden_states_norms.stage{i}" for i in range(1, 5)]
    names = [name.replace("backbone.", "model.pixel_level_module.encoder.") for name in names]
    modules = [f"model.pixel_level_module.encoder.{module}" for module in backbone]
    pixels = ["mask_projection", *(f"input_projections.{i}.{j}" for i in range(3) for j in (0, 1))]
    pixels += ["adapter_1.1", "layer_1.1"]
    inner = [f"self_attn.{name}" for name in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")]
    inner += ["self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"]
    pixels += [f"encoder.layers.0.{module}" for module in inner]
    modules += [f"model.pixel_level_module.decoder.{module}" for module in pixels]
    names += [
        f"model.pixel_level_module.decoder.{name}" for name in ("adapter_1.0.weight", "layer_1.0.weight", "level_embed")
    ]
    inner = ["cross_attn.out_proj", "cross_attn_layer_norm", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"]
    inner += [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    queries = ["decoder.layernorm", *(f"decoder.mask_predictor.mask_embedder.{i}.0" for i in range(3))]
    modules += [f"model.transformer_module.{module}" for module in queries]
    modules += [f"model.transformer_module.decoder.layers.0.{module}" for module in inner]
    modules.append("class_predictor")
    embeddings = ("level_embed", "queries_embedder", "queries_features")
    names += [f"model.transformer_module.{name}.weight" for name in embeddings]
    names += [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")] + ["criterion.empty_weight"]
    tensors = {name: np.zeros(_shape(name)) for name in names}
    whole = "model.transformer_module.decoder.layers.0.cross_attn.in_proj"
    tensors |= {f"{whole}_weight": np.arange(6).reshape(6, 1), f"{whole}_bias": np.arange(6)}
    arrays, unknown = layout.convert(model, tensors)
    assert not unknown and arrays.keys() == arrays_of(model)
    parts = [arrays[f"params/decoder/queries/layer0/cross/{name}/kernel"] for name in "qkv"]
    np.testing.assert_array_equal(parts, [[[0, 1]], [[2, 3]], [[4, 5]]])


def test_queries_keys_and_values_are_one_layer():
    parts = {f"a.self.{name}.{leaf}": np.full(2, n) for n, name in enumerate("qkv") for leaf in ("weight", "bias")}
    joined = concatenated(parts | {"a.self.q.other": np.zeros(1)}, "qkv", "all")
    assert set(joined) == {"a.self.all.weight", "a.self.all.bias", "a.self.q.other"}
    np.testing.assert_array_equal(joined["a.self.all.bias"], [0, 0, 1, 1, 2, 2])


NORMS = re.compile(r".*(norm(\d|_before|_after)?|norms\.stage\d|bn|layer\.0|(adapter_1|layer_1|projections\.\d)\.1)")
DENSE = re.compile(
    r".*(pwconv\d|dense|query|key|value|reduction|fc\d|_proj|_offsets|_weights|embedder(\.\d\.0)?|features|predictor)"
)


def _shape(name):
    """Returns a shape with the number of axes of a tensor, which decides what its weight is."""
    module, _, leaf = name.rpartition(".")
    if leaf != "weight" or NORMS.fullmatch(module):
        return (1,)
    return (1, 1) if DENSE.fullmatch(module) else (1, 1, 1, 1)


DPT = {"architectures": ["DPTForSemanticSegmentation"], "model_type": "dpt", "id2label": {"0": "a", "1": "b"}}
EOMT = {"architectures": ["EomtForUniversalSegmentation"], "model_type": "eomt", "id2label": {"0": "a", "1": "b"}}


def test_a_large_dpt_is_mapped_without_its_auxiliary_head():
    large = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "backbone_out_indices": [5, 11, 17, 23],
        "neck_hidden_sizes": [256, 512, 1024, 1024],
        "use_batch_norm_in_fusion_residual": True,
    }
    layout = read(DPT, **large)
    assert (layout.name, layout.num_classes, layout.class_names) == ("dpt", 2, ("a", "b"))
    assert layout.options == {
        "encoder": "vit_large_patch16_384",
        "encoder_epsilon": 1e-12,
        "feature_blocks": (6, 12, 18, 24),
        "readout": "project",
        "neck_channels": (256, 512, 1024, 1024),
        "fusion_channels": 256,
        "batch_norm": True,
        "dropout": 0.1,
    }
    assert layout.notes == ("the auxiliary head, which predictions do not use, is not loaded",)
    assert not read(DPT, use_auxiliary_head=False).notes


def test_a_large_eomt_is_mapped():
    layout = read(EOMT, image_size=512, num_queries=100)
    assert (layout.name, layout.tile) == ("eomt", (512, 512))
    assert layout.options == {
        "encoder": "vit_large_patch14_reg4_dinov2",
        "encoder_epsilon": 1e-6,
        "queries": 100,
        "blocks": 4,
        "upscalings": 2,
        "patch": 16,
        "grid": 32,
    }


def test_two_classes_without_names_have_those_of_transformers():
    assert read({key: DPT[key] for key in ("architectures", "model_type")}).class_names == ("LABEL_0", "LABEL_1")


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
    "backbone_config: out_features": (UPERNET, {**BACKBONE, "out_features": ["stage4"]}, "is not supported"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(key):
    config, value, says = REFUSED[key]
    # Of several keys, the last is the one that is changed.
    name = key.partition(":")[0].rpartition(" ")[2]
    with pytest.raises(WeightsError, match=rf"^repo: config.json: {key} = ") as caught:
        read(config, **{name: [1, 1, 1, 1] if value is None else value})
    assert says in str(caught.value)
