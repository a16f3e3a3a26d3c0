"""Runs and exported folders are read back as the network that they hold."""

import jax
import numpy as np
import pytest
from exported_networks import trained
from saved_network import write_run

from flaxseg.deploy.trained import read_trained
from flaxseg.errors import WeightsError


@pytest.fixture(scope="module")
def network():
    return trained("plain_unet", width=2, depth=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, network):
    return write_run(tmp_path_factory.mktemp("runs") / "run", network)


@pytest.mark.parametrize(("step", "expected"), [(None, 20), (30, 30)])
def test_a_run_gives_its_best_checkpoint_or_the_one_asked_for(run, network, step, expected):
    found = read_trained(run, step=step)
    assert (found.step, found.description) == (expected, network.description)
    expected_params = jax.tree.map(lambda leaf: leaf * (1 + expected / 100), network.variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.variables["params"], expected_params)
    jax.tree.map(np.testing.assert_array_equal, found.variables["batch_stats"], network.variables["batch_stats"])
    assert found.scores == {"miou": {20: 0.75, 30: 0.5}[expected], "pixel_accuracy": 0.875}
    assert found.data == {"train": 1600, "eval": 400}
    assert found.config["seed"] == 0


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(WeightsError, match=r"has no checkpoint of step 11; steps there: 10, 20, 30"):
        read_trained(run, step=11)
    with pytest.raises(WeightsError, match=r"is neither the directory of a run nor an exported folder"):
        read_trained(tmp_path)
