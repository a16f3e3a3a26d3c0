"""Every architecture through every format, on five images; two of them in the ordinary suite."""

import importlib.util

import pytest
from exported_networks import ENCODERS, OF_ONE_SIZE, SMALL, trained

from flaxseg.deploy.export_formats import ExportOptions
from flaxseg.deploy.folder import export_network
from flaxseg.models import MODELS

QUICK = {
    "plain_unet": {"width": 4, "depth": 2},
    "linknet": {"encoder": "resnet18", "encoder_depth": 3},
}
LARGEST_DIFFERENCE = 1e-5
"""Relative to the largest logit."""

has_converter = importlib.util.find_spec("jax2onnx") is not None and importlib.util.find_spec("onnxruntime") is not None
onnx = pytest.param("onnx", marks=pytest.mark.skipif(not has_converter, reason="the extra `onnx` is not installed"))


def test_every_architecture_is_exported():
    assert set(SMALL) == set(MODELS)


def check(folder, kind, name, options, image_size):
    network = trained(name, image_size=image_size, **options)
    entry = export_network(network, folder / "out", ExportOptions((kind,), images=5))["formats"][kind]
    assert entry["images"] == 5
    assert entry["largest_difference"] <= LARGEST_DIFFERENCE * entry["largest_logit"]
    # Only pixels between classes whose logits are equal up to rounding errors.
    assert entry["differing_pixels"] <= 1e-3 * entry["pixels"]
    return entry


def expected_size(name, kind):
    return "64 x 96" if kind in OF_ONE_SIZE.get(name, ()) else "multiples of"


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["stablehlo", onnx])
@pytest.mark.parametrize("name", ["plain_unet", pytest.param("linknet", marks=pytest.mark.long)])
def test_some_architectures(tmp_path, name, kind):
    entry = check(tmp_path, kind, name, QUICK[name], (16, 24))
    assert entry["image_size"].startswith("multiples of")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["stablehlo", onnx])
@pytest.mark.parametrize("name", SMALL)
def test_all_architectures(tmp_path, name, kind):
    entry = check(tmp_path, kind, name, SMALL[name], (64, 96))
    assert entry["image_size"].startswith(expected_size(name, kind))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["stablehlo", onnx])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_of_each_family(tmp_path, encoder, kind):
    options = {"encoder": encoder, "decoder_channels": (32, 16, 16, 8, 8)}
    size = check(tmp_path, kind, "unet", options, (64, 96))["image_size"]
    assert size.startswith(expected_size(encoder, kind))
