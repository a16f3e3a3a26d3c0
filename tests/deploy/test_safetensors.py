"""Weights and their description come back from a folder as they were."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from exported_networks import trained
from flax import traverse_util

from flaxseg.deploy.safetensors import write_weights
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.weights import stored_weights
from flaxseg.errors import WeightsError


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
    write_weights(tmp_path, stored_weights(network.variables, "float16"), network.description)
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert {name.split("/")[0]: value.dtype for name, value in arrays.items()} == {
        "params": np.float16,
        "batch_stats": np.float32,
    }
    variables = read_model(tmp_path).variables
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), variables, network.variables)
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], network.variables["batch_stats"])


def test_kernels_of_8_bit_integers_come_with_their_scales(network, tmp_path):
    write_weights(tmp_path, stored_weights(network.variables, "int8"), network.description)
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    kernels = {name for name in arrays if name.endswith("/kernel")}
    assert {name for name, value in arrays.items() if value.dtype == np.int8} == kernels
    assert {name.removesuffix(":scale") for name in arrays if name.endswith(":scale")} == kernels
    assert arrays["params/head/bias"].dtype == np.float32
    found = read_model(tmp_path).variables
    for path, kernel in traverse_util.flatten_dict(network.variables["params"], sep="/").items():
        value = traverse_util.flatten_dict(found["params"], sep="/")[path]
        # Half a step of 127 to the largest weight of each output channel.
        limit = np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / 254 if path.endswith("/kernel") else 0
        assert value.dtype == np.float32 and (np.abs(value - kernel) <= limit * 1.001).all()
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"], network.variables["batch_stats"])


def test_weights_of_another_network_are_refused(network, tmp_path):
    other = trained("plain_unet", width=4, depth=1)
    write_weights(tmp_path, network.variables, other.description)
    with pytest.raises(WeightsError, match=r"model\.safetensors: these weights do not belong to this network"):
        read_model(tmp_path)
