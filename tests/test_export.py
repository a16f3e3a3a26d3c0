"""The command flaxseg.export: what it writes, its exit status, and wrong arguments."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from exported_networks import trained
from saved_network import write_run
from saved_run import save_run

from flaxseg import export as command
from flaxseg.data.stored_samples import StoredSample, write_samples
from flaxseg.deploy.program import make_program
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.stablehlo import read_stablehlo
from flaxseg.export import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    network = trained("plain_unet", width=2, depth=1, image_size=(8, 12))
    return write_run(tmp_path_factory.mktemp("runs") / "run", network)


def flags(run, output, *more):
    return [f"--model={run}", f"--output={output}", "--images=2", *more]


def test_a_run_becomes_a_folder_that_is_exported_again(run, tmp_path, capsys):
    assert main(flags(run, tmp_path / "out", "--format=stablehlo", "--argmax", "--license=mit")) == 0
    assert f"written  {tmp_path}/out" in capsys.readouterr().out
    network = read_model(run)
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 12, 3)).astype(np.float32)
    program = make_program(network.description.build(), network.variables, normalized=True, output="classes")
    found = read_stablehlo(tmp_path / "out" / "model.stablehlo")(image)
    np.testing.assert_array_equal(found, jax.jit(program)(image))
    card = (tmp_path / "out" / "README.md").read_text()
    # No path of this computer leaves it.
    assert "someone" not in card + (tmp_path / "out" / "config.json").read_text()
    assert "license: mit" in card and "| miou | 0.7500 |" in card and "- train: 1,600 examples." in card
    assert main(flags(tmp_path / "out", tmp_path / "again")) == 0
    for name in ("model.safetensors", "model.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_an_export_is_compared_on_the_samples_of_its_run(run, tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    shutil.copytree(run, tmp_path / "run")
    samples = [StoredSample(image, image[..., 0] % 4, str(index)) for index in range(3)]
    write_samples(tmp_path / "run" / "samples.npz", samples)
    assert main(flags(tmp_path / "run", tmp_path / "out", "--weights=int8")) == 0
    printed = capsys.readouterr().out
    assert "comparing on 2 of the run's stored samples\n" in printed and "\n  mIoU of the network 0." in printed
    # They may not be published, so that they are no part of an export.
    assert not (tmp_path / "out" / "samples.npz").exists()


def test_an_export_is_pushed(run, tmp_path, capsys, monkeypatch):
    pushed = []
    monkeypatch.setattr(command, "push", lambda folder, name, private: pushed.append((folder, name, private)) or "URL")
    assert main(flags(run, tmp_path / "out", "--push=lab/net", "--private")) == 0
    assert pushed == [(tmp_path / "out", "lab/net", True)]
    assert "pushed   URL" in capsys.readouterr().out


def test_nothing_is_overwritten_unless_asked(run, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert main(flags(run, tmp_path)) == 1
    assert f"error: --output={tmp_path}: already holds README.md" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"
    assert main(flags(run, tmp_path, "--overwrite")) == 0
    assert (tmp_path / "README.md").read_text() != "mine"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--format=onxx", "format = 'onxx': must be one of 'safetensors', 'stablehlo', 'onnx'; did you mean 'onnx'?"),
        ("--weights=int4", "weights = 'int4': must be one of 'float32', 'float16', 'int8'"),
        ("--step=11", ""),
        ("--data=nowhere", "--data=nowhere: is not a folder"),
        ("--image_size=8", "image_size = '8': must be HEIGHT,WIDTH"),
        ("--images=0", "images = 0: must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_one_error(run, tmp_path, capsys, flag, message):
    assert main(flags(run, tmp_path / "out", flag)) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("error:") == 1
    assert not (tmp_path / "out").exists()


def test_a_network_that_does_not_exist_is_named(tmp_path, capsys):
    assert main(flags("nowhere", tmp_path / "out")) == 1
    assert capsys.readouterr().err.startswith("error: nowhere: does not exist")


def test_ctrl_c(run, tmp_path, capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "export_network", interrupted)
    assert main(flags(run, tmp_path / "out")) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err


def test_argmax_and_softmax_exclude_each_other(run, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(flags(run, tmp_path / "out", "--argmax", "--softmax"))
    assert caught.value.code == 2


def test_programs_are_folded_and_return_calibrated_probabilities(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    described = json.loads((run / "model.json").read_text())
    (tmp_path / "run" / "model.json").write_text(json.dumps({**described, "temperature": 2.5}))
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 12, 3)).astype(np.float32)
    outputs, sizes = {}, {}
    for fold in ("--fold", "--no-fold"):
        assert main(flags(tmp_path / "run", tmp_path / fold, "--format=stablehlo", "--softmax", fold)) == 0
        file = tmp_path / fold / "model.stablehlo"
        outputs[fold], sizes[fold] = read_stablehlo(file)(image), file.stat().st_size
    network = read_model(run)
    logits = make_program(network.description.build(), network.variables, normalized=True, output="logits")(image)
    for found in outputs.values():
        np.testing.assert_allclose(found, jax.nn.softmax(logits / 2.5), atol=1e-5)
    assert sizes["--fold"] < sizes["--no-fold"]
    assert read_model(tmp_path / "--fold").description.temperature == 2.5


def test_a_temperature_is_fitted_on_the_evaluation_data(tmp_path, capsys):
    save_run(tmp_path / "run", scores={1: 0.5})
    assert main(flags(tmp_path / "run", tmp_path / "out", "--calibrate")) == 0
    found = re.search(r"calibrated on shapes, split test: the temperature is (\S+)", capsys.readouterr().out)
    temperature = read_model(tmp_path / "out").description.temperature
    assert temperature == pytest.approx(float(found[1]), rel=0.01) and temperature != 1
    # Its weights are random: the labels are more likely where it is less certain.
    assert temperature > 2
    assert main(flags(tmp_path / "out", tmp_path / "again", "--calibrate")) == 1
    assert "give --config=FILE, or --data=DIR" in capsys.readouterr().err
