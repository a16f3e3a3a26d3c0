import numpy as np
from transformers_networks import MASK2FORMER, arrays_of, read, shape_of, swin_names

from flaxseg.models import build_model


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
    tensors = {name: np.zeros(shape_of(name)) for name in names}
    whole = "model.transformer_module.decoder.layers.0.cross_attn.in_proj"
    tensors |= {f"{whole}_weight": np.arange(6).reshape(6, 1), f"{whole}_bias": np.arange(6)}
    arrays, unknown = layout.convert(model, tensors)
    assert not unknown and arrays.keys() == arrays_of(model)
    parts = [arrays[f"params/decoder/queries/layer0/cross/{name}/kernel"] for name in "qkv"]
    np.testing.assert_array_equal(parts, [[[0, 1]], [[2, 3]], [[4, 5]]])
