"""A network is found in a run, an exported folder or a file, and every mistake is named."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from saved_run import save_run

from flaxseg.deploy.saved import read_model
from flaxseg.errors import ArgumentError, WeightsError
from flaxseg.models.pretrained.manifest import write_manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the directory and the states of a run whose third checkpoint has no scores."""
    directory = tmp_path_factory.mktemp("run")
    _, _, states = save_run(directory, scores={2: 0.3, 4: 0.5, 6: None})
    return directory, states


@pytest.fixture
def export(run, tmp_path):
    """Returns an exported folder."""
    shutil.copy(run[0] / "model.json", tmp_path / "model.json")
    flat = traverse_util.flatten_dict(dict(read_model(run[0]).variables), sep="/")
    safetensors.numpy.save_file(flat, tmp_path / "model.safetensors")
    return tmp_path


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, dict(found.variables), dict(expected.variables))
    assert found.description == expected.description and found.model == expected.model
    assert found.digest() == expected.digest()


def test_a_run_gives_its_best_checkpoint_and_what_it_recorded(run):
    saved = read_model(run[0])
    jax.tree.map(np.testing.assert_array_equal, saved.variables["params"], jax.device_get(run[1][4].ema_params))
    assert (saved.step, saved.config, saved.name) == (4, run[0] / "config.json", f"{run[0]} (step 4)")
    assert read_model(run[0], step=6).step == 6
    assert saved.digest() != read_model(run[0], step=6).digest()


def test_a_run_without_scores_gives_its_latest_checkpoint(tmp_path):
    save_run(tmp_path, scores={2: None, 4: None})
    assert read_model(tmp_path).step == 4


def test_the_score_that_selects_the_best_is_that_of_the_run(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    for step, kappa in ((2, 0.9), (4, 0.1)):
        checkpoint = tmp_path / "run" / "checkpoints" / str(step)
        write_manifest(checkpoint, step=step, scores={"miou": step, "kappa": kappa})
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["checkpoint"]["best_metric"] = "kappa"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert read_model(tmp_path / "run").step == 2


def test_nothing_but_description_and_checkpoint_is_needed(run, tmp_path):
    shutil.copytree(run[0] / "checkpoints", tmp_path / "checkpoints")
    shutil.copy(run[0] / "model.json", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert_same(read_model(tmp_path), read_model(run[0]))
    assert read_model(tmp_path).config is None
    assert sorted(tmp_path.rglob("*")) == before


def test_an_exported_folder_and_its_file_give_the_same_network(run, export):
    for path in (export, export / "model.safetensors", str(export)):
        assert_same(read_model(path), read_model(run[0]))
        assert read_model(path).step is None
    with pytest.raises(ArgumentError, match="step = 4: .* has no checkpoints"):
        read_model(export, step=4)


def test_weights_of_another_network_are_refused(export):
    content = json.loads((export / "model.json").read_text())
    content["options"]["width"] = 8
    (export / "model.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"do not belong to this network(.|\n)*in the file, .* in the network"):
        read_model(export)
    content["name"] = "unett"
    (export / "model.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="its network cannot be built: .*did you mean 'unet'"):
        read_model(export)


def test_weights_of_another_number_of_classes_are_refused(export):
    content = json.loads((export / "model.json").read_text())
    content |= {"num_classes": 4, "class_names": content["class_names"][:4], "palette": content["palette"][:4]}
    (export / "model.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"params/head/bias \(5,\) in the file, \(4,\) in the network"):
        read_model(export)


def test_weights_without_a_description_or_under_other_names_are_refused(export):
    safetensors.numpy.save_file({"conv1.weight": np.zeros(1, np.float32)}, export / "torch.safetensors")
    with pytest.raises(WeightsError, match=r"does not name its arrays as flaxseg does .* but 'conv1.weight'"):
        read_model(export / "torch.safetensors")
    (export / "model.json").unlink()
    with pytest.raises(WeightsError, match=r"there is no model.json beside it"):
        read_model(export)


def test_other_directories_are_refused(run, tmp_path):
    (tmp_path / "run-a").mkdir()
    with pytest.raises(WeightsError, match=r"run-b: does not exist; give the directory of a run"):
        read_model(tmp_path / "run-b")
    shutil.copytree(run[0], tmp_path / "ran-b")
    with pytest.raises(WeightsError, match=r"does not exist; did you mean '.*ran-b'"):
        read_model(tmp_path / "run-b")
    (tmp_path / "run-a" / "photo.jpg").touch()
    with pytest.raises(WeightsError, match=r"neither the directory of a run nor an exported folder.*photo\.jpg"):
        read_model(tmp_path / "run-a")
    shutil.copytree(run[0] / "checkpoints", tmp_path / "old" / "checkpoints")
    with pytest.raises(WeightsError, match=r"has checkpoints, but no model.json .* repeat the command"):
        read_model(tmp_path / "old")
    with pytest.raises(WeightsError, match=r"has no checkpoint of step 5; steps there: 2, 4, 6"):
        read_model(run[0], step=5)
    with pytest.raises(ArgumentError, match=r"step = 4: .*is one checkpoint; give the directory of its run"):
        read_model(run[0] / "checkpoints" / "2", step=4)


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints" / "4" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"checkpoints/4: is damaged \(state/_METADATA: has 7 bytes instead of"):
        read_model(tmp_path / "run")
    assert read_model(tmp_path / "run", step=2).step == 2
