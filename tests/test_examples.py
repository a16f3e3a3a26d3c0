"""The examples run, are short, and do what they promise."""

import functools
import importlib
import io
import json
import re
import runpy
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from public_repositories import smp_config, smp_tensors, write_repository
from saved_run import save_run

from flaxseg import DataError, load
from flaxseg.deploy.export_formats import ExportOptions
from flaxseg.deploy.folder import export_network
from flaxseg.deploy.saved import read_model

EXAMPLES = Path("examples").resolve()
SCRIPTS = [path for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "segmentation"]
PAGE = Path("docs/examples.md")


@pytest.fixture
def example(monkeypatch):
    """Returns a function that imports an example as the commands do: with the folder of examples on the path."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert re.match(r'"""[A-Z].*\n', text) and re.search(rf"^ *python examples/{path.name}", text, re.MULTILINE)
    assert f"../examples/{path.name}" in PAGE.read_text(encoding="utf-8")


def test_custom_loop_learns(capsys):
    main = runpy.run_path("examples/custom_loop.py")["main"]
    # It is 0.08 after the first step.
    assert main(steps=20) > 0.13
    assert "after 20 steps: {'loss':" in capsys.readouterr().out


def test_a_dataset_of_ones_own_is_trained_on(example, tmp_path):
    own = example("own_dataset")
    assert own.main(str(tmp_path), steps=20) > 0.5
    train, val = (own.npz_files(split, data_dir=f"{tmp_path}/files").source for split in ("train", "test"))
    assert (len(train), len(val)) == (24, 8)
    assert not {train.example_id(i) for i in range(24)} & {val.example_id(i) for i in range(8)}
    assert train[0]["label"][0, 0] == 255 and set(np.unique(train[0]["label"][1:-1, 1:-1])) == {0, 1}
    (tmp_path / "files" / "0001.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"0001.npz: is not an NPZ file with the arrays image and label"):
        train[0]


def test_a_loss_of_ones_own_decreases_and_excludes_ignored_pixels(example):
    own = example("own_loss")
    first, last = own.main(steps=15)
    assert last < 0.8 * first
    logits, label = np.log([[[[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]]]).astype(np.float32), np.array([[[0, 255]]])
    # By hand: -log(0.5) + 0.1 * 4 * (0.25 + 0.25), of the first pixel alone.
    assert own.symmetric_cross_entropy(logits, label) == pytest.approx(np.log(2) + 0.2, rel=1e-6)
    gradient = jax.grad(own.symmetric_cross_entropy)(logits, label)
    assert np.all(gradient[0, 0, 1] == 0) and np.all(gradient[0, 0, 0] != 0)


def test_a_network_of_ones_own_is_trained(example, tmp_path):
    assert 0 < example("own_model").main(str(tmp_path), steps=20) < 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == {**config["model"], "name": "own_model:context_net", "options": {"width": 8}}


def test_fine_tuning_starts_from_the_weights_of_a_run(example, tmp_path):
    _, _, states = save_run(tmp_path / "source", scores={3: None})
    result = example("fine_tuning").main(str(tmp_path / "source"), folder=str(tmp_path), steps=1, size=32)
    found = {
        jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(result.state.params)
    }
    # A run is continued from the moving average; one step of AdamW moves a parameter by at most the learning rate.
    expected = jax.tree_util.tree_leaves_with_path(states[3].ema_params)
    same = [
        jax.tree_util.keystr(path) for path, value in expected if value.shape == found[jax.tree_util.keystr(path)].shape
    ]
    assert {name for name in found if name not in same} == {"['head']['kernel']", "['head']['bias']"}
    for path, value in expected:
        if (name := jax.tree_util.keystr(path)) in same:
            np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)
    assert result.class_names == ("background", "figure", "border")


@pytest.mark.long
def test_fine_tuning_a_public_network_and_a_run_of_its_own(example, tmp_path, capsys):
    public = write_repository(tmp_path / "unet", smp_config("Unet", "resnet18"), smp_tensors("unet", "resnet18"))
    main = example("fine_tuning").main
    assert main(str(public), folder=str(tmp_path / "a"), steps=2, size=32).scores is not None
    assert "head 2 of 2" in capsys.readouterr().err  # Both have three classes.
    tuned = main(folder=str(tmp_path / "b"), steps=30).scores.compute()["miou"]
    assert tuned > 0.4


def test_an_ensemble_is_better_than_its_members_and_these_are_what_single_networks_are(example, monkeypatch):
    ensemble, trained = example("ensemble"), []
    train = ensemble.train
    monkeypatch.setattr(ensemble, "train", lambda *given: trained.append(train(*given)) or trained[0])
    scores = ensemble.main(members=2, steps=10)
    assert scores["loss"] < scores["member_loss"] - 1e-3
    assert 0 < scores["disagreement"] < 1
    (states,) = trained
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    both = ensemble.member_probabilities(states, image)
    assert np.abs(both[0] - both[1]).max() > 1e-3
    alone = jax.jit(functools.partial(ensemble.predict_logits, model=ensemble.MODEL))
    for member in range(2):
        state = jax.tree.map(lambda leaf, i=member: leaf[i], states)
        np.testing.assert_allclose(both[member], jax.nn.softmax(alone(state, image)), atol=1e-5)


def test_tiles_of_a_large_image_equal_the_whole(example, tmp_path):
    equal, more = example("tiled_prediction").main(str(tmp_path), size=(300, 260), tile=128)
    assert equal > 0.999
    assert 1 < more < 2
    assert np.load(tmp_path / "mask.npy", mmap_mode="r").shape == (300, 260)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_is_served(example, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("jax2onnx", reason="the extra `onnx` is not installed", exc_type=ImportError)
    save_run(tmp_path / "run", scores={1: 0.5})
    options = ExportOptions(("onnx",), output="classes", image_size=(32, 32), images=2)
    export_network(read_model(tmp_path / "run"), tmp_path / "out", options)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    photo.save(body := io.BytesIO(), "PNG")
    answer = Image.open(io.BytesIO(example("serve_onnx").main(str(tmp_path / "out"), body.getvalue())))
    assert (np.asarray(answer) == load(tmp_path / "out")(photo)).mean() > 0.999
    assert answer.getpalette()[:3] == list(load(tmp_path / "out").palette[0])


def test_the_server_refuses_what_is_no_image(example):
    serve = example("serve_onnx")
    with serve.make_server(None, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for body, status in ((b"no image", 400), (b"", 413)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", data=body)
            assert caught.value.code == status
            caught.value.close()
        server.shutdown()
