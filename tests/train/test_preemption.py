"""Signals stop real processes: at once before their first step, with a checkpoint after it."""

import contextlib
import re
import signal
import subprocess
import sys
import time
import unittest.mock

import jax
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.train import loop
from flaxseg.train.checkpoint_damage import check_unchanged
from flaxseg.train.checkpoints import Checkpoints

PROGRAM = """
import ctypes, os, sys, time, unittest.mock
import jax
from flaxseg import interrupts
from flaxseg.config.files import load_config
from flaxseg.train import compile, evaluation, loop
from flaxseg.train.callbacks import Callback

workdir, where, is_command, overrides = sys.argv[1], sys.argv[2], sys.argv[3] == "command", sys.argv[4:]
interrupts._is_command = is_command
loop.Summaries = unittest.mock.MagicMock()


def block():
    '''Blocks the main thread where Python's handlers of signals do not run, as XLA does while it compiles.'''
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    print("blocked", flush=True)
    libc.pthread_mutex_lock(mutex)


class Blocker(Callback):
    def on_start(self, run, state):
        if where == "start":
            block()

    def on_step(self, step, metrics):
        if where == "step" and step == 5:
            block()


score = evaluation._score_batches

def score_one_batch_and_wait(*arguments):
    batches = score(*arguments)
    yield next(batches)
    print("evaluating", flush=True)
    sys.stdin.readline()
    yield from batches

if where == "evaluation":
    evaluation._score_batches = score_one_batch_and_wait

training_program = compile.training_program

def program_of_long_steps(run):
    program = training_program(run)

    def train(state, *others):
        call = program(state, *others)
        return call._replace(skipped=jax.pure_callback(take_a_second, call.skipped, call.skipped, state.step))

    return train

def take_a_second(skipped, step):
    print("taking step", int(step) + 1, flush=True)
    time.sleep(1.0)
    return skipped

if where == "long steps":
    compile.training_program = program_of_long_steps

config = load_config("configs/shapes.py:tiny", overrides)
result = loop.train_and_evaluate(config, workdir, callbacks=[Blocker()])
print("stopped at", int(result.state.step), flush=True)
sys.exit(128 + result.stopped_by)
"""


@contextlib.contextmanager
def start(workdir, where, *overrides, kind="command"):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", PROGRAM, str(workdir), where, kind, *overrides]
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # Does nothing once it has ended.


def wait_for(process, word):
    while word not in (line := process.stdout.readline()):
        assert line, process.stderr.read()


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGINT, signal.SIGUSR1))],
)
def test_a_signal_before_the_first_step_ends_the_process_at_once(tmp_path, number):
    with start(tmp_path / "run", "start") as process:
        wait_for(process, "blocked")
        time.sleep(0.5)  # It says so just before.
        assert (tmp_path / "run" / ".lock").exists()
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "\nstopped before the first step; repeat the command to begin or resume\n" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.long
def test_an_interrupt_before_the_first_step_of_a_program_raises_keyboard_interrupt(tmp_path):
    with start(tmp_path / "run", "start", "train.steps=3", kind="program") as process:
        wait_for(process, "blocked")
        time.sleep(0.5)  # It says so just before.
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)  # It is raised when the main thread returns to Python.
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 128 + signal.SIGINT


def test_a_second_signal_ends_the_process_at_once_without_harm(tmp_path):
    with start(tmp_path / "run", "step", "eval.every=100", "checkpoint.every=3", "train.steps=100") as process:
        wait_for(process, "blocked")
        time.sleep(0.5)  # It says so just before.
        process.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)  # It waits for the end of the step.
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopping after this step and saving a checkpoint; a second signal stops at once" in error
    # The earlier checkpoint is complete, and the directory can be used.
    with Checkpoints(tmp_path / "run" / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 3
    check_unchanged(tmp_path / "run" / "checkpoints" / "3", others_have_manifests=True)
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.long
def test_a_signal_in_a_long_step_stops_the_run_after_this_step(tmp_path):
    with start(tmp_path / "run", "long steps", "train.steps=50", "eval.every=50", "log.every=10") as process:
        wait_for(process, "taking step 3")
        process.send_signal(signal.SIGTERM)
        output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert output.endswith("stopped at 3\n")


@pytest.mark.long
def test_a_signal_during_an_evaluation_abandons_it_until_the_run_is_resumed(tmp_path, monkeypatch):
    settings = ["train.steps=6", "eval.every=3", "log.every=1", "data.options.count=40"]
    with start(tmp_path / "run", "evaluation", *settings) as process:
        wait_for(process, "evaluating")
        process.send_signal(signal.SIGUSR1)
        while "stopping after this step" not in process.stderr.readline():
            pass
        output, error = process.communicate("\n", timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, error
    assert re.search(r"stopped at 3$", output.strip())
    with Checkpoints(tmp_path / "run" / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 3 and checkpoints.lacks_scores(3)
    monkeypatch.setattr(loop, "Summaries", unittest.mock.MagicMock())
    config = load_config("configs/shapes.py:tiny", settings)
    states = [loop.train_and_evaluate(config, tmp_path / name).state for name in ("run", "whole")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run", "whole")]
    untimed = [[re.sub(r'"(wall_time|\w*/\w*per_second)": [^,}]*', "", row) for row in part] for part in rows]
    assert untimed[0] == untimed[1]
    with Checkpoints(tmp_path / "run" / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert not checkpoints.lacks_scores(3)
    check_unchanged(tmp_path / "run" / "checkpoints" / "3", others_have_manifests=True)


def test_ignored_signals_and_other_handlers_are_left_alone():
    program = """if True:
        import signal
        from flaxseg.train.supervision import Supervision
        own = lambda number, frame: None
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, own)
        with Supervision():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGUSR1) is own
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.set_wakeup_fd(-1) == -1
        """
    subprocess.run([sys.executable, "-c", program], check=True)
