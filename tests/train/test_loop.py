"""A whole run: what it writes, which checkpoints it keeps, and that a killed run resumes bit for bit."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from jax._src.array import ArrayImpl
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from flaxseg.config.files import load_config
from flaxseg.data.splits import open_dataset
from flaxseg.data.stored_samples import read_samples
from flaxseg.deploy.evaluation_data import open_evaluation_data
from flaxseg.deploy.saved import read_model
from flaxseg.errors import CheckpointError, ConfigError, TrainingError
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import ConfusionMatrix
from flaxseg.report import tensorboard
from flaxseg.report.figures import confusion_figure
from flaxseg.train import fit, loop
from flaxseg.train.build import build
from flaxseg.train.callbacks import Callback
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.in_flight import InFlight
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.state import restore_or_create

CLASSES = ("background", "disc", "square", "triangle", "border")

compiled_in = {}
"""The names of the threads in which each program of the run below was compiled."""


reads = []
"""The steps of that run after which the host has read from the device, each time before the next step."""


class ReadsOfEachStep(Callback):
    """Notes each step, so that `reads` shows between which steps the host has read from the device."""

    def on_step(self, step, metrics):
        reads.append(step)


def note_compilation(event, duration, fun_name="", **_):
    if event.endswith("/backend_compile_duration"):
        compiled_in.setdefault(fun_name, []).append(threading.current_thread().name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns config, directory, result and jitted functions of a run of six steps, evaluated after 3 and 6."""
    workdir = tmp_path_factory.mktemp("run")
    config = load_config("configs/shapes.py:tiny")
    compiled, original = [], loop.compile_run

    def remember(*arguments):
        functions = original(*arguments)
        compiled.extend(functions)
        return functions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_run", remember)
        patch.setattr(tensorboard, "confusion_figure", confusion_figure)
        # It waits for earlier steps only, while the devices compute the latest; see test_in_flight.
        patch.setattr(InFlight, "add", lambda *_: None)
        jax.monitoring.register_event_duration_secs_listener(note_compilation)
        value, wait = ArrayImpl._value, ArrayImpl.block_until_ready
        patch.setattr(ArrayImpl, "_value", property(lambda self: reads.append("read") or value.fget(self)))
        patch.setattr(ArrayImpl, "block_until_ready", lambda self: reads.append("wait") or wait(self))
        result = train_and_evaluate(config, workdir, callbacks=[ReadsOfEachStep()])
        jax.monitoring.unregister_event_duration_listener(note_compilation)
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


def test_each_function_compiles_once(run):
    train, logits, score, label = run[3]
    assert [function._cache_size() for function in (train, logits, score._score, label)] == [1, 1, 1, 1]


def test_the_step_is_compiled_while_the_run_starts(run):
    assert compiled_in["jit(train)"] == ["flaxseg-compilation"]
    assert compiled_in["jit(create_train_state)"] != ["flaxseg-compilation"]


def test_nothing_waits_for_the_device_between_logs(run):
    assert {"read", "wait"} <= set(reads)
    # The first loss is shown, logs are due after 2, 4 and 6, and are read once the next step has been dispatched, and
    # an evaluation is due after 3.
    for step in (1, 5):
        assert reads[reads.index(step) + 1] == step + 1


def test_tensorboard_holds_every_scalar(events):
    for name in ("loss", "loss/cross_entropy", "grad_norm", "learning_rate", "steps_per_second", "images_per_second"):
        assert [step for step, _ in events[f"train/{name}"]] == [2, 3, 4, 6], name
        assert all(np.isfinite(value) for _, value in events[f"train/{name}"])
    for name in ("miou", "pixel_accuracy", *(f"iou/{name}" for name in CLASSES)):
        assert [step for step, _ in events[f"eval/{name}"]] == [3, 6], name


def test_tensorboard_scalars_match_the_run(run, events):
    schedule = build(run[0]).optim.schedule
    rates = {step: float(value) for step, value in events["train/learning_rate"]}
    assert rates == pytest.approx({step: float(schedule(step - 1)) for step in (2, 3, 4, 6)})
    assert events["eval/miou"][-1][1] == pytest.approx(run[2].scores.confusion.compute()["miou"])
    assert events["train/loss"][-1][1] < events["train/loss"][0][1]


def test_tensorboard_holds_figures(events):
    for name in ("eval/predictions", "eval/confusion_matrix"):
        assert [step for step, _ in events[name]] == [3, 6]
        assert events[name][0][1][2].startswith(b"\x89PNG")


def test_figures_are_also_png_files(run):
    names = sorted(path.name for path in (run[1] / "images").iterdir())
    shown = [f"000000{step}_{name}.png" for step in (3, 6) for name in ("batch", "confusion_matrix", "predictions")]
    assert names == ["0000000_batch.png", *shown]
    panel = np.asarray(Image.open(run[1] / "images" / "0000006_predictions.png"))
    assert panel.shape[2] == 3
    assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 50


def test_a_run_stores_samples_of_its_evaluation_set(run):
    config, workdir, _, _ = run
    source, samples = build(config).data.evaluation.source, read_samples(workdir / "samples.npz")
    assert len(samples) == len(source) == 16
    for sample, example in zip(samples, (source[index] for index in range(16)), strict=True):
        assert sample.id == example["id"]
        np.testing.assert_array_equal(sample.image, example["image"])
        np.testing.assert_array_equal(sample.label, example["label"])


def test_latest_and_best_checkpoints_are_kept(run):
    with Checkpoints(run[1] / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 6
        assert checkpoints.best_step == run[2].best_step


def test_a_finished_run_is_only_evaluated_again(run):
    config, workdir, result, _ = run
    before = sorted(str(path) for path in (workdir / "checkpoints").rglob("*"))
    samples = (workdir / "samples.npz").stat()
    again = train_and_evaluate(config, workdir)
    assert (workdir / "samples.npz").stat() == samples
    np.testing.assert_array_equal(again.scores.confusion.counts, result.scores.confusion.counts)
    assert sorted(str(path) for path in (workdir / "checkpoints").rglob("*")) == before


def test_a_workdir_of_another_configuration_is_refused(run):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 1.0
    other.model.options.width = 8
    before = (workdir / "config.json").read_text()
    with pytest.raises(CheckpointError) as raised:
        train_and_evaluate(other, workdir)
    message = str(raised.value)
    assert "contains a run of another configuration" in message
    assert "config.model.options.width: 4 in the directory, 8 in this run" in message
    assert "config.optimizer.learning_rate: 0.003 in the directory, 1.0 in this run" in message
    assert "config.seed" not in message
    assert (workdir / "config.json").read_text() == before


def test_a_checkpoint_that_does_not_fit_names_the_parameter(run, tmp_path):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    other.model.options.width = 8
    parts = build(other)
    with (
        Checkpoints(workdir / "checkpoints", keep=2, best_metric="miou") as checkpoints,
        pytest.raises(CheckpointError) as raised,
    ):
        restore_or_create(parts, checkpoints, lambda: None)
    message = str(raised.value)
    assert (
        "params/decoder/level0/block0/conv/kernel: (3, 3, 8, 4) in the checkpoint, (3, 3, 16, 8) in this run" in message
    )
    assert "opt_state" not in message
    assert re.search(r"and \d+ more", message)


class Recorder(Callback):
    """Records the events of a run."""

    def __init__(self):
        self.events = []

    def on_start(self, run, state):
        self.events.append(("start", int(state.step)))

    def on_step(self, step, metrics):
        self.events.append(("step", step))

    def on_log(self, step, scalars, metrics):
        self.events.append(("log", step))
        assert np.isfinite(scalars["loss"]) and metrics.loss.count >= 1

    def on_evaluation(self, step, evaluation):
        self.events.append(("evaluation", step))
        assert evaluation.scores["miou"] == pytest.approx(evaluation.metrics.confusion.compute()["miou"])

    def on_checkpoint(self, step, state, scores):
        self.events.append(("checkpoint", step, scores is not None))

    def on_end(self, result):
        self.events.append(("end", int(result.state.step)))


@contextlib.contextmanager
def falling_scores():
    """Makes the first evaluation perfect, and every later one entirely wrong."""
    total = np.eye(5, dtype=np.int64)
    counts = itertools.chain([total], itertools.repeat(total[::-1]))

    def evaluate(*_, shows_images, should_stop=None):
        metrics = EvalMetrics(ConfusionMatrix(next(counts)))
        return Evaluation(metrics, metrics.compute())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "evaluate", evaluate)
        yield


SEVEN_STEPS = ["train.steps=7", "eval.every=2", "checkpoint.every=3", "checkpoint.keep=1"]
SEVEN_STEPS += ["log.images=0", "mesh.data=1"]


@pytest.fixture(scope="module")
def seven_steps(tmp_path_factory):
    """Returns the directory, result and recorded events of a run of seven steps whose first evaluation is the best."""
    workdir, recorder = tmp_path_factory.mktemp("seven_steps"), Recorder()
    with falling_scores():
        result = train_and_evaluate(load_config("configs/shapes.py:tiny", SEVEN_STEPS), workdir, callbacks=[recorder])
    return workdir, result, recorder.events


def test_the_best_checkpoint_is_kept_to_the_end(seven_steps):
    """Evaluations after 2, 4 and 6 of 7 steps, checkpoints after 3 and 6: the best, of step 2, is kept to the end."""
    workdir, result, _ = seven_steps
    assert result.best_step == 2 and not result.stopped_early
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "7"]


def test_callbacks_see_every_event_in_order(seven_steps):
    """Evaluated after 2, 4, 6 and 7 of 7 steps, saved after 3, 6, 7 and at the best; averages after every 2 steps."""
    events = seven_steps[2]
    assert events == [
        ("start", 0),
        ("step", 1),
        ("step", 2), ("log", 2), ("evaluation", 2), ("checkpoint", 2, True),
        ("step", 3), ("log", 3), ("checkpoint", 3, False),
        ("step", 4), ("log", 4), ("evaluation", 4),
        ("step", 5),
        ("step", 6), ("log", 6), ("evaluation", 6), ("checkpoint", 6, True),
        ("step", 7), ("log", 7), ("evaluation", 7), ("checkpoint", 7, True),
        ("end", 7),
    ]  # fmt: skip


def test_a_run_stops_early_without_improvement_and_is_not_resumed(tmp_path, capsys):
    config = load_config("configs/shapes.py:tiny", [*SEVEN_STEPS, "train.early_stop=2"])
    with falling_scores():
        result = train_and_evaluate(config, tmp_path)
        assert (result.best_step, int(result.state.step), result.stopped_early) == (2, 4, True)
        assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
        capsys.readouterr()
        again = train_and_evaluate(config, tmp_path)
    assert (int(again.state.step), again.stopped_early) == (4, True)
    assert "stopped early at step 4 of 7; evaluated once more" in capsys.readouterr().err


class SignalAt(Callback):
    """Sends a signal to this process after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step, metrics):
        if step == self.step:
            signal.raise_signal(signal.SIGUSR1)


def test_a_run_without_evaluation_is_saved_and_resumed(tmp_path, capsys):
    settings = ["data.eval_split=", "checkpoint.every=3", "optimizer.warmup_steps=3", "log.images=0", "mesh.data=1"]
    recorder = Recorder()
    config = load_config("configs/shapes.py:tiny", [*settings, "train.steps=4"])
    result = train_and_evaluate(config, tmp_path, callbacks=[recorder])
    assert (result.scores, result.best_step, result.stopped_by) == (None, None, 0)
    assert recorder.events == [
        ("start", 0),
        ("step", 1),
        ("step", 2), ("log", 2),
        ("step", 3), ("log", 3), ("checkpoint", 3, False),
        ("step", 4), ("log", 4), ("checkpoint", 4, False),
        ("end", 4),
    ]  # fmt: skip
    text = capsys.readouterr().err
    assert "16 images to train on, no evaluation, 5 classes (background, disc, square, triangle, border)" in text
    warmup = "no warm-up (optimizer.warmup_steps = 3 is more than half of the run)"
    assert f"steps 0 to 4, batches of 16, a checkpoint every 3 steps, {warmup}\n" in text
    first = open_dataset("shapes", "train", options={"size": (32, 32), "count": 16}).source[0]
    np.testing.assert_array_equal(read_samples(tmp_path / "samples.npz")[0].image, first["image"])
    assert [*json.loads((tmp_path / "data.json").read_text())] == ["train"]
    longer = load_config("configs/shapes.py:tiny", [*settings, "train.steps=6"])
    last = train_and_evaluate(longer, tmp_path, callbacks=[SignalAt(6)])
    # A signal in the last step changes nothing; in the first step of a process, it would end it at once.
    assert (int(last.state.step), last.stopped_by, last.scores) == (6, 0, None)
    assert read_model(tmp_path).step == 6
    with pytest.raises(
        ConfigError, match="names no split to evaluate on; give one with --split, such as --split=train"
    ):
        open_evaluation_data(longer)
    assert open_evaluation_data(longer, split="train").name == "shapes, split train"


@pytest.mark.parametrize(
    "overrides",
    [
        ["eval.resolution=image_size", "train.precision=bfloat16", "train.remat=convolutions"],
        pytest.param(["eval.resolution=image_size"], marks=pytest.mark.long),
        pytest.param(["train.precision=bfloat16", "train.remat=convolutions"], marks=pytest.mark.long),
        pytest.param(
            [
                "mesh.fsdp=2",
                "mesh.spatial=2",
                "train.remat=blocks",
                "optimizer.accumulate_steps=2",
                "optimizer.batch_statistics=whole_batch",
                "optimizer.name=muon",
                "log.hardest=2",
            ],
            marks=pytest.mark.long,
        ),
    ],
)
def test_other_settings_train_and_score_every_pixel(tmp_path, overrides):
    config = load_config(
        "configs/shapes.py:tiny", [*overrides, "data.image_size=(24,20)", "train.steps=3", "log.images=0"]
    )
    result = train_and_evaluate(config, tmp_path)
    pixels = 24 * 20 if "image_size" in overrides[0] else 32 * 32
    assert result.scores.confusion.counts.sum() == 16 * pixels
    assert {leaf.dtype for leaf in jax.tree.leaves(result.state.params)} == {np.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(result.state.params)))


def test_an_update_that_is_not_finite_is_never_saved(tmp_path):
    """The loss and its gradient belong to the parameters before the step, and are finite."""
    overrides = ["optimizer.learning_rate=3e38", "optimizer.warmup_steps=0", "train.steps=1", "eval.every=1"]
    overrides += ["log.images=0"]
    with pytest.raises(TrainingError, match=r"step 1: the update of the parameters .* is not finite.*= inf"):
        train_and_evaluate(load_config("configs/shapes.py:tiny", overrides), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size=12", "config.train.batch_size = 12: does not divide over 8 devices"),
        ("data.train_split=trian", "config.data.train_split = 'trian'"),
        ("optimizer.freeze=('encodr',)", "config.optimizer.freeze = 'encodr': matches no parameter"),
    ],
)
def test_an_invalid_configuration_creates_no_workdir(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(load_config("configs/shapes.py:tiny", [override]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


OVERRIDES = [
    "optimizer.ema_decay=0.9",
    "checkpoint.every=2",
    "augment.scale=(0.9,1.2)",
    "model.options.decoder_dropout=0.2",
]

KILLED = """
import os, signal, sys, unittest.mock
from flaxseg.config.files import load_config
from flaxseg.train import fit, loop

def restore_or_create(run, checkpoints, load):
    def kill(*arguments, **options):
        checkpoints.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    fit.evaluate = kill
    return original(run, checkpoints, load)

# Summaries are not tested here, and writing them imports TensorFlow.
loop.Summaries = unittest.mock.MagicMock()
original, loop.restore_or_create = loop.restore_or_create, restore_or_create
loop.train_and_evaluate(load_config("configs/shapes.py:tiny", sys.argv[2:]), sys.argv[1])
"""


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    """With augmentation, several losses and dropout; `test_killed_runs` kills at any moment.

    Six steps in one process equal a process killed at step 3, after checkpoint 2, and a second that resumes it.
    """
    config = load_config("configs/shapes.py:tiny", OVERRIDES)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "parts"), *OVERRIDES]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with Checkpoints(tmp_path / "parts" / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 2
    before = (tmp_path / "parts" / "config.json").read_text()
    whole, parts = (train_and_evaluate(config, tmp_path / name) for name in ("whole", "parts"))
    assert (tmp_path / "parts" / "config.json").read_text() == before
    states = jax.device_get((whole.state, parts.state))
    assert states[0].step == 6
    assert states[0].ema_params is not None
    jax.tree.map(np.testing.assert_array_equal, *states)
    np.testing.assert_array_equal(whole.scores.confusion.counts, parts.scores.confusion.counts)


@pytest.mark.long
def test_a_run_without_evaluation_resumes_bit_for_bit(tmp_path):
    config = load_config("configs/shapes.py:tiny", [*OVERRIDES, "data.eval_split="])
    whole = train_and_evaluate(config, tmp_path / "whole")
    stopped = train_and_evaluate(config, tmp_path / "parts", callbacks=[SignalAt(3)])
    assert 3 <= int(stopped.state.step) <= 4, "a thread receives the signal, perhaps in the next step"
    assert stopped.stopped_by == signal.SIGUSR1
    resumed = train_and_evaluate(config, tmp_path / "parts")
    assert (int(resumed.state.step), resumed.stopped_by) == (6, 0)
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((whole.state, resumed.state)))
