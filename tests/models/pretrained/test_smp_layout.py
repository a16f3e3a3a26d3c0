"""Every option of segmentation_models_pytorch is mapped to one of this library, or refused by name."""

import numpy as np
import pytest

from flaxseg.errors import WeightsError
from flaxseg.models import build_model
from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.smp_layout import read_smp


def read(kind, **options):
    return read_smp(Settings({"_model_class": kind, "classes": 3, **options}, "repo: config.json"))


MAPPED = {
    "unet": (
        {"encoder_name": "resnet18", "encoder_depth": 4, "decoder_channels": [8, 4, 4, 2], "in_channels": 4},
        {"encoder": "resnet18", "encoder_depth": 4, "decoder_channels": (8, 4, 4, 2), "attention": "none"},
    ),
    "Unet scse": ({"decoder_attention_type": "scse"}, {"attention": "scse", "encoder": "resnet34"}),
    "Unet old name": ({"decoder_use_batchnorm": True}, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "Unet efficientnet": ({"encoder_name": "efficientnet-b2"}, {"encoder": "efficientnet_b2"}),
    "Unet timm": ({"encoder_name": "tu-resnet18.a1_in1k"}, {"encoder": "resnet18"}),
    "Unet lite": ({"encoder_name": "tu-tf_efficientnet_lite0"}, {"encoder": "efficientnet_lite0"}),
    "Unet head": ({"aux_params": {"classes": 5, "dropout": 0.5}}, {"image_classes": 5}),
    "UnetPlusPlus": ({"encoder_depth": 3, "decoder_channels": [8, 4, 2]}, {"decoder_channels": (8, 4, 2)}),
    "MAnet": ({"decoder_pab_channels": 16}, {"attention_channels": 16}),
    "Linknet": ({"encoder_depth": 3}, {"encoder_depth": 3}),
    "FPN": (
        {"decoder_merge_policy": "cat", "decoder_pyramid_channels": 64, "decoder_dropout": 0.1, "upsampling": 4},
        {"merge": "cat", "pyramid_channels": 64, "segmentation_channels": 128, "dropout": 0.1},
    ),
    "FPN depth": ({"encoder_depth": 4, "upsampling": 2}, {"encoder_depth": 4}),
    "PSPNet": ({"psp_out_channels": 64, "psp_dropout": 0.0}, {"decoder_channels": 64, "dropout": 0.0}),
    "PSPNet norm": ({"decoder_use_norm": "identity"}, {"use_batchnorm": False}),
    "PSPNet old norm": ({"psp_use_batchnorm": False}, {"use_batchnorm": False}),
    "DeepLabV3": ({"decoder_atrous_rates": [2, 4, 6]}, {"atrous_rates": (2, 4, 6), "output_stride": 8}),
    "DeepLabV3Plus": ({"encoder_output_stride": 8}, {"output_stride": 8, "separable": True, "dropout": 0.5}),
    "PAN": ({"encoder_output_stride": 32, "decoder_channels": 16}, {"output_stride": 32, "decoder_channels": 16}),
    "UPerNet": ({"encoder_name": "tu-convnext_tiny"}, {"encoder": "convnext_tiny", "decoder_channels": 256}),
    "Segformer": ({"decoder_segmentation_channels": 32}, {"decoder_channels": 32}),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPPED)
def test_options_are_mapped_to_those_of_a_network_that_can_be_built(case):
    given, expected = MAPPED[case]
    layout = read("Unet" if case == "unet" else case.split()[0], **given)
    assert {name: layout.options.get(name) for name in expected} == expected
    assert (layout.num_classes, layout.channels) == (3, given.get("in_channels", 3))
    assert build_model(layout.name, num_classes=3, **layout.options).num_classes == 3


REFUSED = {
    "decoder_interpolation": ("Unet", "bilinear", "only 'nearest' is"),
    "upscale_mode": ("PAN", "nearest", "only 'bilinear' is"),
    "decoder_use_norm": ("Unet", "instancenorm", "only 'batchnorm' is"),
    "decoder_use_batchnorm": ("UnetPlusPlus", False, "only 'batchnorm' is"),
    "psp_use_batchnorm": ("PSPNet", "inplace", "only 'batchnorm' is"),
    "activation": ("FPN", "sigmoid", "classes that exclude each other need a softmax"),
    "upsampling": ("FPN", 8, "logits of the image's size need 4"),
    "aux_params": ("Unet", {"classes": 2, "pooling": "max"}, "pooling = 'max': is not supported; only 'avg' is"),
    "encoder_name": ("Unet", "package.module:function", "is not supported; supported are resnet18"),
    "encoder_depth": ("Unet", "5", "must be an integer of at least 1"),
    "encoder_depth = 1000000000": ("Unet", 10**9, "must be at most 5"),
    "classes": ("Unet", 10**9, "must be at most 255"),
    "drop_rate": ("FPN", 0.1, "is not supported, and could change the outputs"),
    "encoder_output_stride": ("Linknet", 16, "is not supported, and could change the outputs"),
    "_model_class": ("package.module:function", None, "is not supported; supported are Unet"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(key):
    kind, value, says = REFUSED[key]
    with pytest.raises(WeightsError, match=rf"^repo: config.json: {key}") as caught:
        read(kind, **({} if key == "_model_class" else {key.partition(" ")[0]: value}))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "name", ["tu-vgg16", "tu-efficientnet_b0", "timm-efficientnet-b0", "tu-mobilenet_v2", "efficientnet_lite0", "x", 3]
)
def test_encoders_that_differ_from_those_here_are_refused(name):
    with pytest.raises(WeightsError, match=r"config.json: encoder_name = "):
        read("Unet", encoder_name=name)


def test_encoders_that_timm_dilates_differently_are_refused():
    with pytest.raises(WeightsError, match=r"encoder_output_stride = 8: is not supported with the encoder tu-resnet18"):
        read("DeepLabV3", encoder_name="tu-resnet18")
    assert read("DeepLabV3", encoder_name="tu-convnext_tiny").options["output_stride"] == 8


def test_one_class_becomes_two_with_the_same_probability():
    layout = read("Unet", classes=1, activation="sigmoid", encoder_name="resnet18")
    assert (layout.num_classes, layout.class_names) == (2, ("background", "foreground"))
    model = build_model(layout.name, num_classes=2, **layout.options)
    kernel = np.arange(16 * 9, dtype=np.float32).reshape(1, 16, 3, 3)
    tensors = {"segmentation_head.0.weight": kernel, "segmentation_head.0.bias": np.array([3.0])}
    arrays, unknown = layout.convert(model, tensors)
    assert not unknown
    np.testing.assert_array_equal(arrays["params/head/kernel"][..., 0], 0)
    np.testing.assert_array_equal(arrays["params/head/kernel"][1, 2, :, 1], kernel[0, :, 1, 2])
    np.testing.assert_array_equal(arrays["params/head/bias"], [0, 3])


def test_what_does_not_change_predictions_is_noted():
    head = {"classes": 5, "dropout": 0.5, "activation": "sigmoid"}
    assert [note.partition("(")[2] for note in read("Unet", aux_params=head).notes[1:]] == [
        "aux_params.dropout = 0.5) is 0.2 here",
        "aux_params.activation = 'sigmoid')",
    ]
