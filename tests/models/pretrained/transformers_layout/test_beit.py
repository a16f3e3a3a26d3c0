import numpy as np
from transformers_networks import BEIT, arrays_of, read, shape_of, upernet_tensor_names

from flaxseg.models import build_model


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
    tensors = {name: np.zeros(shape_of(name)) for name in names}
    arrays, unknown = layout.convert(model, tensors | {name: np.zeros(shape) for name, shape in shapes.items()})
    # The features are those of blocks 2, 4, 6 and 10, so that the last two layers are not used.
    assert not unknown and arrays.keys() == arrays_of(model)
