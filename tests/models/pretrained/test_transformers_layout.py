"""Every option of transformers that changes a network is mapped or refused by name."""

import functools

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

BACKBONE = {
    "model_type": "convnext",
    "depths": [3, 3, 9, 3],
    "hidden_sizes": [96, 192, 384, 768],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
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


def test_the_tensors_of_an_upernet_fill_every_array():
    layout = read(UPERNET)
    model = build_model("upernet", num_classes=2, **layout.options)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    wanted = set(traverse_util.flatten_dict({key: shapes[key] for key in ("params", "batch_stats")}, sep="/"))
    conv = ["conv.weight"]
    norm = [f"batch_norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    blocks = ["bottleneck", "fpn_bottleneck", *(f"psp_modules.{i}.1" for i in range(4))]
    blocks += [f"{kind}.{i}" for kind in ("lateral_convs", "fpn_convs") for i in range(3)]
    names = [f"decode_head.{block}.{leaf}" for block in blocks for leaf in conv + norm]
    names += [f"auxiliary_head.convs.0.{leaf}" for leaf in conv + norm]
    heads = ("decode_head.classifier", "auxiliary_head.classifier")
    names += [f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")]
    modules = ["embeddings.patch_embeddings", "embeddings.layernorm"]
    modules += [f"hidden_states_norms.stage{i}" for i in range(1, 5)]
    for stage, depth in enumerate(BACKBONE["depths"]):
        modules += [f"encoder.stages.{stage}.downsampling_layer.{i}" for i in (0, 1)] if stage else []
        layers = ("dwconv", "layernorm", "pwconv1", "pwconv2")
        modules += [f"encoder.stages.{stage}.layers.{i}.{layer}" for i in range(depth) for layer in layers]
        names += [f"backbone.encoder.stages.{stage}.layers.{i}.layer_scale_parameter" for i in range(depth)]
    names += [f"backbone.{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    arrays, unknown = layout.convert(model, {name: np.zeros(_shape(name)) for name in names})
    assert not unknown and arrays.keys() == wanted


def _shape(name):
    """Returns a shape with the number of axes of a tensor, which decides what its weight is."""
    module, _, leaf = name.rpartition(".")
    if leaf != "weight" or module.endswith(("norm", "layernorm", "layer.0")) or "hidden_states_norms" in module:
        return (1,)
    return (1, 1) if "pwconv" in module else (1, 1, 1, 1)


REFUSED = {
    "model_type": (SEGFORMER, "mask2former", "supported are segformer, upernet"),
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
    "backbone_config: out_features": (UPERNET, {**BACKBONE, "out_features": ["stage4"]}, "is not supported"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(key):
    config, value, says = REFUSED[key]
    name = "depths" if " and " in key else key.partition(":")[0]
    with pytest.raises(WeightsError, match=rf"^repo: config.json: {key} = ") as caught:
        read(config, **{name: [1, 1, 1, 1] if value is None else value})
    assert says in str(caught.value)
