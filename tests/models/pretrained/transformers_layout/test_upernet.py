import numpy as np
import pytest
from transformers_networks import (
    CONVNEXT,
    SWIN,
    UPERNET,
    arrays_of,
    convnext_tensor_names,
    read,
    shape_of,
    swin_tensor_names,
)

from flaxseg.models import build_model


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


@pytest.mark.parametrize(
    ("backbone", "names"),
    [("convnext", convnext_tensor_names), pytest.param("swin", swin_tensor_names, marks=pytest.mark.long)],
)
def test_the_tensors_of_an_upernet_fill_every_array(backbone, names):
    layout = read(UPERNET, backbone_config={"convnext": CONVNEXT, "swin": SWIN}[backbone])
    model = build_model("upernet", num_classes=2, **layout.options)
    arrays, unknown = layout.convert(model, {name: np.zeros(shape_of(name)) for name in names()})
    assert not unknown and arrays.keys() == arrays_of(model)


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
