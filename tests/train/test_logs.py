"""The logs of a run that is killed and resumed are those of a run that was not."""

import json
import signal
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from flaxseg.config.files import load_config
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = ["log.hardest=2"]

KILLED = f"""
import os, signal, sys, time
from pathlib import Path
from flaxseg.config.files import load_config
from flaxseg.train.callbacks import Callback
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.writers import SummaryWriter

log = SummaryWriter.on_log

def log_and_flush(self, *arguments):
    log(self, *arguments)
    self._summaries.flush()

SummaryWriter.on_log = log_and_flush

class Killer(Callback):
    def on_step(self, step, metrics):
        if step == 5:
            while not Path(sys.argv[1], "checkpoints", "3").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

train_and_evaluate(load_config("configs/shapes.py:tiny", {OVERRIDES!r}), sys.argv[1], callbacks=[Killer()])
"""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Returns the directory of a run of six steps, and of one that was killed at step 5 and resumed from step 3."""
    whole, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    process = subprocess.run([sys.executable, "-c", KILLED, str(killed)], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    # What is to be removed is there: step 4 was logged, and will be logged again.
    assert [row["step"] for row in metrics(killed)] == [2, 3, 3, 4]
    assert [step for step, _ in events(killed)["train/loss"]] == [2, 3, 4]
    for workdir in (whole, killed):
        train_and_evaluate(load_config("configs/shapes.py:tiny", OVERRIDES), workdir)
    return whole, killed


def metrics(workdir):
    return [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
    accumulator = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def without_times(row):
    return {name: value for name, value in row.items() if name != "wall_time" and "per_second" not in name}


def test_metrics_have_a_row_for_each_logged_step_and_evaluation(workdirs):
    rows = metrics(workdirs[0])
    assert [(row["step"], "train/loss" in row, "eval/miou" in row) for row in rows] == [
        (2, True, False),
        (3, True, False),
        (3, False, True),
        (4, True, False),
        (6, True, False),
        (6, False, True),
    ]
    written = events(workdirs[0])
    for row in rows:
        for name in row.keys() - {"step", "wall_time"}:
            assert row[name] == pytest.approx(float(dict(written[name])[row["step"]]), rel=1e-6), name


def test_metrics_of_a_killed_run_have_no_step_twice_and_none_missing(workdirs):
    whole, killed = ([without_times(row) for row in metrics(workdir)] for workdir in workdirs)
    assert killed == whole


def test_tensorboard_of_a_killed_run_has_no_step_twice_and_none_missing(workdirs):
    whole, killed = map(events, workdirs)
    assert killed.keys() == whole.keys()
    for tag in whole:
        assert [step for step, _ in killed[tag]] == [step for step, _ in whole[tag]], tag
    assert [step for step, _ in killed["train/loss"]] == [2, 3, 4, 6]
    assert [float(value) for _, value in killed["train/loss"]] == [float(value) for _, value in whole["train/loss"]]


def test_hardest_examples_of_a_killed_run_are_listed_once(workdirs):
    whole, killed = ((workdir / "hardest_examples.csv").read_text() for workdir in workdirs)
    assert killed == whole
    assert [line.split(",")[0] for line in whole.splitlines()] == ["step", *(str(s) for s in (2, 2, 3, 3, 4, 4, 6, 6))]
