"""Two processes stop together on a signal, and neither waits for one that has died, stands still or has failed."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from flaxseg.train.checkpoint_damage import check_unchanged

PROGRAM = """
import os, signal, sys, time, unittest.mock
import jax

index, port, workdir, event = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
jax.distributed.initialize(f"localhost:{port}", 2, index)
from flaxseg.config.files import load_config
from flaxseg.train import heartbeats, loop
from flaxseg.train.callbacks import Callback

loop.Summaries = unittest.mock.MagicMock()
if event != "slow":
    heartbeats.DEATH_SECONDS, heartbeats.BEAT_SECONDS = 2.0, 0.2


class Events(Callback):
    def on_start(self, run, state):
        if event == "before":
            print("ready", flush=True)
            time.sleep(60)

    def on_step(self, step, metrics):
        if step == 2:
            print("ready", flush=True)
        if index == 1 and step == 4:
            if event == "stands still":
                time.sleep(60)
            if event == "fails":
                raise ValueError("this process fails alone")
        time.sleep(0.02)


settings = ["train.steps=100000", "log.every=3", "eval.every=100000", "checkpoint.every=100000", *sys.argv[5:]]
result = loop.train_and_evaluate(load_config("configs/shapes.py:tiny", settings), workdir, callbacks=[Events()])
print("stopped at", int(result.state.step), flush=True)
sys.exit(128 + result.stopped_by)
"""


class Pair:
    """Two processes of one run; after `with`, none of them is left."""

    def __init__(self, workdir, event, *overrides):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
        words = [str(port), str(workdir), event, *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(i), *words], env=os.environ | {"XLA_FLAGS": flags}, **pipes
            )
            for i in range(2)
        ]

    def __enter__(self):
        for process in self.processes:
            while "ready" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.communicate()

    def outputs(self):
        return [process.communicate(timeout=60) for process in self.processes]

    def codes(self):
        return [process.returncode for process in self.processes]


def check_that_both_stop(workdir, first, number, wait):
    with Pair(workdir, "steps") as pair:
        time.sleep(wait)
        begin = time.monotonic()
        pair.processes[first].send_signal(number)
        outputs = pair.outputs()
        seconds = time.monotonic() - begin
    assert pair.codes() == [128 + number] * 2, outputs
    steps = {int(re.search(r"stopped at (\d+)", output)[1]) for output, _ in outputs}
    assert len(steps) == 1
    step = steps.pop()
    assert 2 <= step < 100000
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == [str(step)]
    check_unchanged(workdir / "checkpoints" / str(step), others_have_manifests=True)
    return seconds


@pytest.mark.long
def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    check_that_both_stop(tmp_path / "run", 1, signal.SIGTERM, 0.2)


@pytest.mark.long
def test_a_signal_to_one_process_stops_both_in_twenty_of_twenty_tries(tmp_path, record_property):
    choose = random.Random(0)
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    seconds = [
        check_that_both_stop(tmp_path / str(i), choose.randrange(2), choose.choice(numbers), choose.uniform(0, 1.5))
        for i in range(20)
    ]
    record_property("figure", f"20 of 20 tries; both ended at most {max(seconds):.1f} s after the signal")


@pytest.mark.long
@pytest.mark.parametrize("first", [0, 1])
def test_a_signal_before_the_first_step_ends_both(tmp_path, first):
    with Pair(tmp_path / "run", "before") as pair:
        pair.processes[first].send_signal(signal.SIGTERM)
        outputs = pair.outputs()
    assert pair.codes() == [128 + signal.SIGTERM] * 2, outputs
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_the_death_of_a_process_ends_the_other_which_names_it(tmp_path):
    with Pair(tmp_path / "run", "steps") as pair:
        time.sleep(1)
        pair.processes[1].kill()
        (_, error), _ = pair.outputs()
    assert pair.codes() == [1, -signal.SIGKILL]
    found = re.search(
        r"error: process 0 \(.*\) stops: process 1 \(.*, process id (\d+)\) has died: .*known step was (\d+)", error
    )
    assert int(found[1]) == pair.processes[1].pid
    assert int(found[2]) >= 2
    assert "Thread 0x" in error and "train_and_evaluate" in error
    assert error.endswith("repeat the command in all processes to resume from the latest checkpoint\n")


@pytest.mark.long
def test_a_process_notices_a_death_within_thirty_seconds(tmp_path, record_property):
    with Pair(tmp_path / "run", "slow") as pair:
        begin = time.monotonic()
        pair.processes[1].kill()
        pair.outputs()
    assert pair.codes() == [1, -signal.SIGKILL]
    seconds = time.monotonic() - begin
    assert seconds < 30
    record_property("figure", f"the other process ended {seconds:.1f} s after the death")


@pytest.mark.long
def test_the_death_of_the_first_process_ends_the_other(tmp_path):
    with Pair(tmp_path / "run", "slow") as pair:
        begin = time.monotonic()
        pair.processes[0].kill()
        _, (_, error) = pair.outputs()
    assert pair.codes()[1] in (1, -signal.SIGABRT)
    assert time.monotonic() - begin < 30
    assert "most recent call first" in error
    host, (first, second) = socket.gethostname(), [process.pid for process in pair.processes]
    first, second = f"process 0 ({host}, process id {first})", f"process 1 ({host}, process id {second})"
    # JAX aborts the process, unless its heartbeats are the first to notice.
    begin, end = (f"error: {second} was aborted, because {first}", "has ended")
    if pair.codes()[1] == 1:
        begin, end = (f"error: {second} stops: {first}", "has ended or cannot be reached")
    known = re.escape(f"{begin}, which coordinates the processes, {end}; its last known step was ") + r"\d+"
    assert re.search(known, error) and "epeat the command in all processes to resume" in error


@pytest.mark.long
def test_a_process_that_stands_still_ends_both_which_name_it(tmp_path):
    with Pair(tmp_path / "run", "stands still", "train.stall_minutes=0.1") as pair:
        outputs = pair.outputs()
    assert pair.codes() == [1, 1]
    for _, error in outputs:
        assert f"the others wait for process 1 ({socket.gethostname()}, process id {pair.processes[1].pid})" in error
    assert ", line" in outputs[1][1] and "in on_step" in outputs[1][1]


@pytest.mark.long
def test_an_error_of_one_process_ends_the_other_which_repeats_it(tmp_path):
    with Pair(tmp_path / "run", "fails") as pair:
        (_, error), (_, own) = pair.outputs()
    assert pair.codes()[0] == 1 and pair.codes()[1] != 0
    assert "ValueError: this process fails alone" in own
    assert "ended with ValueError: this process fails alone" in error
