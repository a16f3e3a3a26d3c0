"""What a run records about its training, and what of it an exported folder keeps."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from exported_networks import trained
from saved_network import write_run

from flaxseg.deploy.safetensors import write_weights
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.trained import TrainingRecord, read_record


@pytest.fixture(scope="module")
def network():
    return trained("plain_unet", width=2, depth=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, network):
    return write_run(tmp_path_factory.mktemp("runs") / "run", network)


@pytest.mark.parametrize(("step", "expected"), [(None, 20), (30, 30)])
def test_a_run_gives_its_best_checkpoint_or_the_one_asked_for(run, network, step, expected):
    saved = read_model(run, step=step)
    assert (saved.step, saved.description) == (expected, network.description)
    expected_params = jax.tree.map(lambda leaf: leaf * (1 + expected / 100), network.variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), saved.variables["params"], expected_params)
    jax.tree.map(np.testing.assert_array_equal, saved.variables["batch_stats"], network.variables["batch_stats"])
    record = read_record(saved)
    assert record.step == expected
    assert record.scores == {"miou": {20: 0.75, 30: 0.5}[expected], "pixel_accuracy": 0.875}
    assert record.data == {"train": 1600, "eval": 400}
    assert record.config["seed"] == 0


def test_an_exported_folder_keeps_the_record_in_its_report(run, tmp_path):
    saved = read_model(run)
    record = read_record(saved)
    write_weights(tmp_path, saved.variables, saved.description)
    assert read_record(read_model(tmp_path)) == TrainingRecord()
    (tmp_path / "export.json").write_text(json.dumps({"training": record.to_json()}))
    assert read_record(read_model(tmp_path)) == dataclasses.replace(record, config={})
    (tmp_path / "export.json").write_text("damaged")
    assert read_record(read_model(tmp_path)) == TrainingRecord()
    assert read_record(dataclasses.replace(saved, folder=None)) == TrainingRecord()


def test_undefined_scores_are_left_out_of_the_report():
    record = TrainingRecord(scores={"miou": 0.5, "kappa": float("nan")}, data={"train": 2}, step=7)
    assert record.to_json() == {"data": {"train": 2}, "scores": {"miou": 0.5}, "step": 7}
