"""Configurations of transformers' networks, and the names of their tensors."""

import functools
import re

import jax
import numpy as np
from flax import traverse_util

from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.transformers_layout import read_transformers

CONVNEXT = {
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
DPT = {"architectures": ["DPTForSemanticSegmentation"], "model_type": "dpt", "id2label": {"0": "a", "1": "b"}}
EOMT = {"architectures": ["EomtForUniversalSegmentation"], "model_type": "eomt", "id2label": {"0": "a", "1": "b"}}
UPERNET = {
    "architectures": ["UperNetForSemanticSegmentation"],
    "model_type": "upernet",
    "backbone_config": CONVNEXT,
    "hidden_size": 32,
    "auxiliary_channels": 16,
    "id2label": {"0": "a", "1": "b"},
}


def read(config, **changes):
    return read_transformers(Settings({**config, **changes}, "repo: config.json"))


def arrays_of(model):
    """Returns the paths of a network's arrays."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    return set(
        traverse_util.flatten_dict({key: shapes[key] for key in ("params", "batch_stats") if key in shapes}, sep="/")
    )


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
    for stage, depth in enumerate(CONVNEXT["depths"]):
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


NORMS = re.compile(r".*(norm(\d|_before|_after)?|norms\.stage\d|bn|layer\.0|(adapter_1|layer_1|projections\.\d)\.1)")
DENSE = re.compile(
    r".*(pwconv\d|dense|query|key|value|reduction|fc\d|_proj|_offsets|_weights|embedder(\.\d\.0)?|features|predictor)"
)


def shape_of(name):
    """Returns a shape with the number of axes of a tensor, which decides what its weight is."""
    module, _, leaf = name.rpartition(".")
    if leaf != "weight" or NORMS.fullmatch(module):
        return (1,)
    return (1, 1) if DENSE.fullmatch(module) else (1, 1, 1, 1)
