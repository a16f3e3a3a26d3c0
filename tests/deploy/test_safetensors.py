"""Weights and their description come back from a folder as they were."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from exported_networks import trained

from flaxseg.deploy.program import half_precision
from flaxseg.deploy.safetensors import write_weights
from flaxseg.deploy.saved import read_model
from flaxseg.errors import ExportError, WeightsError


@pytest.fixture(scope="module")
def network():
    return trained("plain_unet", width=2, depth=1)


def test_a_folder_holds_the_network(network, tmp_path):
    write_weights(tmp_path, network.variables, network.description)
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors", "model.json"}
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert "params/head/kernel" in arrays and "batch_stats/encoder/level0/block0/norm/mean" in arrays
    assert {value.dtype for value in arrays.values()} == {np.dtype(np.float32)}
    saved = read_model(tmp_path)
    assert (saved.model, saved.description) == (network.description.build(), network.description)
    jax.tree.map(np.testing.assert_array_equal, saved.variables, network.variables)


def test_half_precision_rounds_parameters_alone(network, tmp_path):
    write_weights(tmp_path, half_precision(network.variables), network.description)
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert {name.split("/")[0]: value.dtype for name, value in arrays.items()} == {
        "params": np.float16,
        "batch_stats": np.float32,
    }
    variables = read_model(tmp_path).variables
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), variables, network.variables)
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], network.variables["batch_stats"])


@pytest.mark.parametrize("value", [70000.0, np.nan])
def test_values_beyond_float16_are_refused(value):
    with pytest.raises(ExportError, match=rf"a parameter is {value:g}, and float16 ends at 65504"):
        half_precision({"params": {"kernel": np.array([1, value], np.float32)}})


def test_weights_of_another_network_are_refused(network, tmp_path):
    other = trained("plain_unet", width=4, depth=1)
    write_weights(tmp_path, network.variables, other.description)
    with pytest.raises(WeightsError, match=r"model\.safetensors: these weights do not belong to this network"):
        read_model(tmp_path)
