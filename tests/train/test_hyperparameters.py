"""Several learning rates and loss weights trained together: each run is that of its configuration alone."""

import json
import shutil
import unittest.mock

import jax
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError
from flaxseg.report import tensorboard
from flaxseg.train import fit, loop
from flaxseg.train.compile import compile_run
from flaxseg.train.dry_run import dry_run
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.members import train_together

OVERRIDES = [
    "checkpoint.every=2", "data.cache=host", "eval.every=4", "log.images=0", "log.writer=tensorboard", "mesh.data=1",
    "optimizer.warmup_steps=0", "optimizer.schedule=polynomial", "optimizer.schedule_options.power=1.0",
    "train.batch_size=8", "train.steps=4",
]  # fmt: skip
RATES = (1e-3, 0.02)
LOSSES = ({"cross_entropy": 1.0}, {"cross_entropy": 0.5, "dice": 0.25})
NAMES = {
    (rate, number): f"seed-0_learning_rate-{rate}_loss-{loss}"
    for rate in RATES
    for number, loss in enumerate(("cross_entropy-1", "cross_entropy-0.5-dice-0.25"))
}


def config_of(*overrides):
    return load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides])


def together(*overrides):
    return config_of(f"train.learning_rates={RATES}", f"train.loss_weights={LOSSES}", *overrides)


def single(rate, number):
    return config_of(f"optimizer.learning_rate={rate}", f"loss={LOSSES[number]}")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compiles the program of all runs once, and draws no figures."""
    compiled = []

    def compile_once(run, state):
        if run.optim.arguments.learning_rate is None:
            return compile_run(run, state)
        if not compiled:
            compiled.append(compile_run(run, state))
        return compiled[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_run", compile_once)
        patch.setattr(tensorboard, "confusion_figure", lambda *_: np.zeros((4, 4, 3), np.uint8))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns the folder and the results of four runs that were trained together."""
    folder = tmp_path_factory.mktemp("together")
    return folder, train_together(together(), folder)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_each_run_has_its_own_directory_and_configuration(trained):
    folder, results = trained
    assert sorted(path.name for path in folder.iterdir()) == sorted(results) == sorted(NAMES.values())
    for (rate, number), name in NAMES.items():
        recorded = json.loads((folder / name / "config.json").read_text())
        assert recorded == json.loads(single(rate, number).to_json())
        assert int(results[name].state.step) == 4 and len(list((folder / name).glob("*tfevents*"))) == 1


def test_each_run_logs_its_own_learning_rate_and_losses(trained):
    """The learning rate falls linearly over 4 steps, and is logged with the last step taken."""
    folder, _ = trained
    for (rate, number), name in NAMES.items():
        logged = [row for row in rows(folder / name) if "train/loss" in row]
        rates = [row["train/learning_rate"] for row in logged]
        np.testing.assert_allclose(rates, [0.75 * rate, 0.25 * rate], rtol=1e-5)
        for row in logged:
            parts = {key.removeprefix("train/loss/"): row[key] for key in row if key.startswith("train/loss/")}
            assert parts.keys() == LOSSES[number].keys()
            total = sum(weight * parts[loss] for loss, weight in LOSSES[number].items())
            assert row["train/loss"] == pytest.approx(total, rel=1e-5)


def test_runs_continue_alone_and_together(trained, tmp_path):
    folder, results = trained
    name = NAMES[0.02, 1]
    shutil.copytree(folder, tmp_path / "runs")
    ours = tmp_path / "runs" / name
    shutil.rmtree(ours / "checkpoints" / "4")
    alone = train_and_evaluate(single(0.02, 1), ours)
    assert [row["step"] for row in rows(ours)] == [2, 4, 4]
    assert_close(alone, results[name])
    start = np.concatenate([np.ravel(x) for x in jax.tree.leaves(results[NAMES[1e-3, 0]].state.params)])
    end = np.concatenate([np.ravel(x) for x in jax.tree.leaves(alone.state.params)])
    assert np.abs(start - end).max() > 0.01
    with unittest.mock.patch.object(fit.Member, "inputs", side_effect=AssertionError("a step was taken")):
        again = train_together(together(), tmp_path / "runs")
    for a, b in zip(jax.tree.leaves(again[name].state), jax.tree.leaves(alone.state), strict=True):
        np.testing.assert_array_equal(a, b)


def branching(peak, steps):
    """Is a schedule that JAX cannot trace."""
    return lambda step: 0.1 if peak > 0.5 else peak


def test_what_cannot_be_trained_together_is_refused(tmp_path):
    schedule = [f"optimizer.schedule={__name__}:branching", "optimizer.schedule_options={}"]
    with pytest.raises(ConfigError, match=r"test_hyperparameters:branching'.* must take a learning rate that JAX"):
        train_together(together(*schedule), tmp_path / "run")
    with pytest.raises(ConfigError, match="train.loss_weights = .*: this function trains one run; use"):
        train_and_evaluate(together(), tmp_path / "run")
    with pytest.raises(ConfigError, match="train.loss_weights = .*: a dry run describes a step of one run"):
        dry_run(together())
    with pytest.raises(ConfigError, match="class_weights = .*none of the losses lovasz_softmax takes class"):
        losses = "train.loss_weights=({'cross_entropy':1},{'lovasz_softmax':1})"
        train_together(config_of(losses, "class_weights=median_frequency"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
