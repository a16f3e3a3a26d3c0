"""A whole run: what it writes, what it keeps, and that a run which is killed goes on bit for bit."""

import dataclasses
import itertools
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from flaxseg.config.files import load_config
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import CheckpointError, ConfigError, DataError, TrainingError
from flaxseg.metrics import ConfusionMatrix
from flaxseg.report.tensorboard import Pictures
from flaxseg.train import inputs
from flaxseg.train import loop as train
from flaxseg.train.build import compose
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.step import EvalMetrics

CLASSES = ("background", "disc", "square", "triangle", "border")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of six steps with evaluations after 3 and 6, its result, and how often things compiled."""
    workdir = tmp_path_factory.mktemp("run")
    config = load_config("configs/shapes.py:tiny")
    compiled, original = [], train.compile_run

    def remember(*arguments):
        functions = original(*arguments)
        compiled.extend(functions)
        return functions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "compile_run", remember)
        result = train.train_and_evaluate(config, workdir)
    return config, workdir, result, compiled


@pytest.fixture(scope="module")
def events(run):
    accumulator = EventAccumulator(str(run[1]), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def test_every_example_is_scored_once_at_its_own_size(run):
    assert run[2].scores.confusion.counts.sum() == 16 * 32 * 32
    assert run[2].scores.confusion.counts.dtype == np.int64


def test_nothing_compiles_twice(run):
    assert [function._cache_size() for function in run[3]] == [1, 1, 1, 1]


def test_tensorboard_holds_every_scalar(events):
    for name in ("loss", "loss/cross_entropy", "grad_norm", "learning_rate", "steps_per_second", "images_per_second"):
        assert [step for step, _ in events[f"train/{name}"]] == [2, 3, 4, 6], name
        assert all(np.isfinite(value) for _, value in events[f"train/{name}"])
    for name in ("miou", "pixel_accuracy", *(f"iou/{name}" for name in CLASSES)):
        assert [step for step, _ in events[f"eval/{name}"]] == [3, 6], name


def test_scalars_are_the_runs_own(run, events):
    schedule = compose(run[0]).schedule
    rates = {step: float(value) for step, value in events["train/learning_rate"]}
    assert rates == pytest.approx({step: float(schedule(step - 1)) for step in (2, 3, 4, 6)})
    assert events["eval/miou"][-1][1] == pytest.approx(run[2].scores.confusion.compute()["miou"])
    assert events["train/loss"][-1][1] < events["train/loss"][0][1]


def test_tensorboard_holds_the_pictures(events):
    for name in ("eval/predictions", "eval/confusion_matrix"):
        assert [step for step, _ in events[name]] == [3, 6]
        assert events[name][0][1][2].startswith(b"\x89PNG")


def test_pictures_are_files_as_well(run):
    names = sorted(path.name for path in (run[1] / "pictures").iterdir())
    assert names == [f"000000{step}_{name}.png" for step in (3, 6) for name in ("confusion_matrix", "predictions")]
    panel = np.asarray(Image.open(run[1] / "pictures" / "0000006_predictions.png"))
    assert panel.shape[2] == 3
    assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 50


def test_latest_and_best_checkpoints_are_there(run):
    with Checkpoints(run[1] / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 6
        assert checkpoints.best_step == run[2].best_step


def test_a_finished_run_is_only_scored_again(run):
    config, workdir, result, _ = run
    before = sorted(str(path) for path in (workdir / "checkpoints").rglob("*"))
    again = train.train_and_evaluate(config, workdir)
    np.testing.assert_array_equal(again.scores.confusion.counts, result.scores.confusion.counts)
    assert sorted(str(path) for path in (workdir / "checkpoints").rglob("*")) == before


def test_another_experiment_is_not_overwritten(run):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 1.0
    other.model.options.width = 8
    before = (workdir / "config.json").read_text()
    with pytest.raises(CheckpointError) as raised:
        train.train_and_evaluate(other, workdir)
    message = str(raised.value)
    assert "holds a run of another experiment" in message
    assert "config.model.options.width: 4 there, 8 now" in message
    assert "config.optimizer.learning_rate: 0.003 there, 1.0 now" in message
    assert "config.seed" not in message
    assert (workdir / "config.json").read_text() == before


def test_a_checkpoint_that_does_not_fit_names_the_parameter(run, tmp_path):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    other.model.options.width = 8
    parts = compose(other)
    with (
        Checkpoints(workdir / "checkpoints", keep=2, best_metric="miou") as checkpoints,
        pytest.raises(CheckpointError) as raised,
    ):
        train.restore_or_create(parts, other, checkpoints)
    message = str(raised.value)
    assert (
        "params/decoder/level0/block0/conv/kernel: (3, 3, 8, 4) in the checkpoint, (3, 3, 16, 8) in this run" in message
    )
    assert "opt_state" not in message
    assert re.search(r"and \d+ more", message)


def test_splits_of_other_classes_are_refused(run):
    parts = compose(run[0])
    renamed = dataclasses.replace(parts.eval_data, class_names=("a", "b", "c", "d", "e"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "load_dataset", lambda _, split: parts.train_data if split == "train" else renamed)
        with pytest.raises(ConfigError, match="the splits differ in their classes"):
            compose(run[0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "loss_options.cross_entropy.class_weights=(1,2,3)",
            "config.loss_options.cross_entropy.class_weights = .*3 weights for 5",
        ),
        ("class_weights=(1,2,3)", r"config.class_weights = \(1.0, 2.0, 3.0\): 3 weights for 5 classes"),
        ("optimizer.freeze=('encodr',)", "config.optimizer.freeze: 'encodr' covers no parameter"),
        ("optimizer.freeze=('.*',)", "config.optimizer.freeze = .*covers every parameter"),
        ("optimizer.lr_scale=(('heads',2),)", "config.optimizer.lr_scale: 'heads' covers no parameter"),
        ("optimizer.accumulate_steps=3", "does not divide into optimizer.accumulate_steps = 3 parts for 8 device"),
        ("optimizer.schedule=plateau", "config.optimizer.schedule_options.window = 100, patience = 5: .* run has 4"),
        ("optimizer.warmup_steps=6", "config.optimizer.warmup_steps = 6: the whole run has 6 steps"),
        ("model.options.std=(1.0,2.0)", "config.model: unet with these options cannot take pictures .*32, 32, 3"),
    ],
)
def test_what_only_the_data_can_tell_is_told_before_training(tmp_path, override, message):
    config = load_config("configs/shapes.py:tiny", [override])
    with pytest.raises(ConfigError, match=message):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def falling(monkeypatch):
    """Every evaluation but the first of a run finds that all is wrong."""
    total = np.eye(5, dtype=np.int64)
    counts = itertools.chain([total], itertools.repeat(total[::-1]))
    monkeypatch.setattr(train, "evaluate_all", lambda *_: (EvalMetrics(ConfusionMatrix(next(counts))), Pictures(0)))


OF_SEVEN = ["train.steps=7", "eval.every=2", "checkpoint.every=3", "checkpoint.keep=1"]


def test_the_best_evaluation_is_kept_wherever_it_falls(tmp_path, falling):
    """Evaluations after 2, 4 and 6 of 7 steps, checkpoints after 3 and 6: the best, of step 2, is there at the end."""
    result = train.train_and_evaluate(load_config("configs/shapes.py:tiny", OF_SEVEN), tmp_path)
    assert result.best_step == 2 and not result.stopped_early
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "7"]


def test_a_run_ends_early_where_evaluations_get_no_better_and_does_not_go_on_from_there(tmp_path, falling):
    config = load_config("configs/shapes.py:tiny", [*OF_SEVEN, "train.early_stop=2"])
    result = train.train_and_evaluate(config, tmp_path)
    assert (result.best_step, int(result.state.step), result.stopped_early) == (2, 4, True)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
    again = train.train_and_evaluate(config, tmp_path)
    assert (int(again.state.step), again.stopped_early) == (4, True)


def test_one_class_is_nothing_to_learn(run):
    parts = compose(run[0])
    alone = dataclasses.replace(parts.train_data, num_classes=1, class_names=("all",), palette=((0, 0, 0),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "load_dataset", lambda *_: alone)
        with pytest.raises(ConfigError, match="the dataset has one class, 'all'"):
            compose(run[0])


@pytest.mark.parametrize(
    "overrides",
    [
        ["eval.resolution=image_size"],
        ["train.precision=bfloat16"],
        ["mesh.fsdp=2", "mesh.spatial=2", "optimizer.accumulate_steps=2", "optimizer.name=muon", "log.hardest=2"],
    ],
)
def test_other_settings_train_and_score_every_pixel(tmp_path, overrides):
    config = load_config("configs/shapes.py:tiny", [*overrides, "data.image_size=(24,20)", "train.steps=3"])
    result = train.train_and_evaluate(config, tmp_path)
    pixels = 24 * 20 if "image_size" in overrides[0] else 32 * 32
    assert result.scores.confusion.counts.sum() == 16 * pixels
    assert {leaf.dtype for leaf in jax.tree.leaves(result.state.params)} == {np.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(result.state.params)))


def test_a_step_to_what_is_not_finite_is_neither_saved_nor_the_end(tmp_path):
    """The loss and its gradient are those of the parameters before the step, and finite."""
    overrides = ["optimizer.learning_rate=3e38", "optimizer.warmup_steps=0", "train.steps=1", "eval.every=1"]
    with pytest.raises(TrainingError, match=r"step 1: the loss, its gradient or the step taken is not .*= inf"):
        train.train_and_evaluate(load_config("configs/shapes.py:tiny", overrides), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_an_invalid_configuration_makes_no_workdir(tmp_path):
    config = load_config("configs/shapes.py:tiny")
    config.train.batch_size = 12
    with pytest.raises(ConfigError, match="config.train.batch_size = 12: does not divide over 8 devices"):
        train.train_and_evaluate(config, tmp_path / "run")
    config.train.batch_size = 16
    config.data.train_split = "trian"
    with pytest.raises(DataError, match="trian"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


OVERRIDES = [
    "optimizer.ema_decay=0.9",
    "checkpoint.every=2",
    "augment.scale=(0.9,1.2)",
    "model.options.decoder_dropout=0.2",
]

KILLED = """
import os, signal, sys
from flaxseg import train
from flaxseg.config.files import load_config

def restore_or_create(experiment, config, checkpoints, loaded):
    def killed(*arguments):
        checkpoints.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    train.evaluate_all = killed
    return original(experiment, config, checkpoints, loaded)

original, train.restore_or_create = train.restore_or_create, restore_or_create
train.train_and_evaluate(load_config("configs/shapes.py:tiny", sys.argv[2:]), sys.argv[1])
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Six steps at once, against a process killed at step 3, after checkpoint 2, and another that goes on."""
    config = load_config("configs/shapes.py:tiny", OVERRIDES)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "parts"), *OVERRIDES]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with Checkpoints(tmp_path / "parts" / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 2
    before = (tmp_path / "parts" / "config.json").read_text()
    whole, parts = (train.train_and_evaluate(config, tmp_path / name) for name in ("whole", "parts"))
    assert (tmp_path / "parts" / "config.json").read_text() == before
    states = jax.device_get((whole.state, parts.state))
    assert states[0].step == 6
    assert states[0].ema_params is not None
    jax.tree.map(np.testing.assert_array_equal, *states)
    np.testing.assert_array_equal(whole.scores.confusion.counts, parts.scores.confusion.counts)


def test_batches_are_those_of_the_step_whenever_it_starts(run):
    batches = compose(run[0]).train_batches
    from flaxseg.data.pipeline import iterate

    late = iterate(batches, start=4, num_threads=2, prefetch=2)
    for step in (4, 5, 6):
        batch = next(late)
        np.testing.assert_array_equal(batch["image"], batches[step]["image"])
        np.testing.assert_array_equal(batch["label"], batches[step]["label"])
        assert (batch["label"] != IGNORE_LABEL).all()
    late.close()
