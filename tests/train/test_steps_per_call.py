"""Several steps in one call of the compiled program: the same training, and the same promises."""

import json
import shutil

import jax
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.errors import CheckpointError, ConfigError
from flaxseg.train.build import build
from flaxseg.train.callbacks import Callback
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = [
    "augment.flip=0.5",
    "data.cache=device",
    "data.options.count=48",
    "log.images=0",
    "log.writer=tensorboard",
    "mesh.data=2",
]


def config_of(*overrides):
    return load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides])


class Record(Callback):
    def __init__(self):
        self.steps, self.losses = [], {}

    def on_step(self, step, metrics):
        self.steps.append((step, np.shape(metrics.loss.total)))

    def on_log(self, step, scalars, metrics):
        self.losses[step] = scalars["loss"]


def arrays(state):
    return jax.tree.leaves(jax.device_get(state))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns directory, result and record of a run of six steps, by the number of steps per call."""
    runs = {}
    for count in (1, 3):
        workdir, record = tmp_path_factory.mktemp("run"), Record()
        config = config_of(f"train.steps_per_call={count}", "log.every=3", "checkpoint.every=3")
        runs[count] = workdir, train_and_evaluate(config, workdir, callbacks=[record]), record
    return runs


def test_training_is_the_same_up_to_rounding(runs):
    (_, one, single), (_, three, called) = runs[1], runs[3]
    assert single.losses.keys() == called.losses.keys() == {3, 6}
    for step, loss in single.losses.items():
        assert called.losses[step] == pytest.approx(loss, abs=1e-5)
    for a, b in zip(arrays(one.state), arrays(three.state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert one.scores.confusion.counts.sum() == three.scores.confusion.counts.sum()


def test_callbacks_are_called_after_each_call(runs):
    assert runs[1][2].steps == [(step, ()) for step in range(1, 7)]
    assert runs[3][2].steps == [(3, (3,)), (6, (3,))]


def test_the_same_steps_are_logged(runs):
    rows = {
        count: [json.loads(line) for line in (runs[count][0] / "metrics.jsonl").read_text().splitlines()]
        for count in runs
    }
    assert [row.keys() for row in rows[1]] == [row.keys() for row in rows[3]]
    assert [row["step"] for row in rows[1]] == [row["step"] for row in rows[3]]


def test_a_stopped_run_resumes_bit_for_bit(runs, tmp_path):
    config = config_of("train.steps_per_call=3", "log.every=3", "checkpoint.every=3")
    workdir = shutil.copytree(runs[3][0], tmp_path / "run")
    # As a run leaves it that is killed in its second call.
    shutil.rmtree(workdir / "checkpoints" / "6")
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["3"]
    resumed = train_and_evaluate(config, workdir)
    for a, b in zip(arrays(runs[3][1].state), arrays(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_number_is_refused_when_a_run_is_resumed(runs):
    with pytest.raises(CheckpointError, match=r"config.train.steps_per_call: 3 in the directory, 1 in this run"):
        train_and_evaluate(config_of("log.every=3", "checkpoint.every=3"), runs[3][0])


def test_numbers_of_steps_that_it_does_not_divide_are_refused():
    with pytest.raises(ConfigError) as raised:
        build(config_of("train.steps_per_call=4", "log.every=4", "checkpoint.every=2"))
    assert str(raised.value).splitlines() == [
        f"config.{key} = {steps}: is not a multiple of config.train.steps_per_call = 4; use {nearest}, or another "
        "number of steps per call"
        for key, steps, nearest in (("train.steps", 6, 8), ("eval.every", 3, 4), ("checkpoint.every", 2, 4))
    ]


def test_lengths_that_follow_from_the_data_are_rounded():
    overrides = ["train.steps=0", "eval.every=0", "train.epochs=4", "train.batch_size=4"]
    for count, total, every in ((1, 48, 12), (5, 50, 10), (60, 60, 60)):
        plan = build(config_of(*overrides, f"train.steps_per_call={count}", "log.every=60")).loop
        assert (plan.total_steps, plan.evaluation.every, plan.checkpoints.every) == (total, every, every)
