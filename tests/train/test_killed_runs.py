"""A run that is killed at any moment, and repeated, ends as one that was not: state, examples, logs and checkpoints."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from logged_events import events
from recorded_run import __file__ as PROGRAM

from flaxseg import doctor

NAMED = [
    ["import"],
    ["configuration"],
    ["compilation"],
    ["first step"],
    ["Orbax writes"],
    ["Orbax commits"],
    ["first manifest"],
    ["manifest"],
    ["manifest written"],
    ["before deletion"],
    ["deletion"],
    ["half deleted"],
    ["evaluation"],
    ["evaluated"],
    ["best switched"],
    ["row"],
    ["event"],
    ["first step", "take-over"],
    ["stop in evaluation", "scores added"],
    ["first manifest", "half deleted", "manifest"],
]
"""Stages of `recorded_run`: each process of a run ends at the next one, and a last process at none."""

RANDOM = 10
DIFFERS = ("wall_time", "steps_per_second", "images_per_second")
FIGURE = "{} of {} moments; {} arrays, the examples of 10 steps and {} numbers of the log equal"


def start(folder, stage, records="records", **environment):
    """Starts a process of the run in a folder."""
    flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
    (folder / records).mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, PROGRAM, str(folder / records), stage, f"--workdir={folder / 'run'}"],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(PROGRAM).parents[1])} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder):
    """Runs the command to its end, and returns what the whole run has computed and left."""
    process = start(folder, "none")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return outcome(folder)


def kill_at(folder, *stages):
    for stage in stages:
        process = start(folder, stage)
        _, error = process.communicate(timeout=300)
        expected = 128 + signal.SIGTERM if stage.startswith("stop") else -signal.SIGKILL
        assert process.returncode == expected, (stage, process.returncode, error)


def kill_after(folder, seconds):
    """Kills the run after a time from its start; returns whether it was still there."""
    process = start(folder, "none")
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def outcome(folder):
    """Returns what is to be equal. Steps that were repeated have been given the same examples each time."""
    state, steps = json.loads((folder / "records" / "state.json").read_text()), {}
    assert state["checkpoint"] == state["devices"]
    for row in map(json.loads, (folder / "records" / "steps.jsonl").read_text().splitlines()):
        assert steps.setdefault(row["step"], row) == row
    return {
        "state": state,
        "steps": [steps[step] for step in sorted(steps)],
        "log": [without_times(json.loads(row)) for row in (folder / "run" / "metrics.jsonl").read_text().splitlines()],
        "events": {tag: [step for step, _ in rows] if "per_second" in tag else rows
                   for tag, rows in events(folder / "run").items()},
        "figures": {path.name: path.read_bytes() for path in (folder / "run" / "images").iterdir()},
        "checkpoints": sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()),
        "files": sorted(path.name for path in (folder / "run").iterdir() if not path.name.startswith("events")),
    }  # fmt: skip


def without_times(row):
    return {name: value for name, value in row.items() if name.removeprefix("train/") not in DIFFERS}


def check(folder, whole):
    """Finishes a run that was killed, and compares it with one that was not."""
    found = finish(folder)
    for name, expected in whole.items():
        assert found[name] == expected, name
    assert doctor.main([str(folder / "run"), "--skip_devices"]) == 0


def figure(killed, whole):
    numbers = sum(len(row) - 1 for row in whole["log"])
    return FIGURE.format(killed, killed, len(whole["state"]["devices"]), numbers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the outcome of a run that was not killed, and the seconds that it took."""
    folder, begin = tmp_path_factory.mktemp("whole"), time.monotonic()
    return finish(folder), time.monotonic() - begin


@pytest.mark.long
def test_a_run_that_is_not_killed_does_what_is_compared(whole):
    found, _ = whole
    assert [row["step"] for row in found["steps"]] == list(range(1, 11))
    assert len({tuple(row["examples"]) for row in found["steps"]}) == 10
    assert [row["step"] for row in found["log"]] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10]
    assert [step for step, _ in found["events"]["train/loss"]] == list(range(1, 11))
    assert found["state"]["best"] == 8 and found["checkpoints"] == ["10", "8"]
    assert {"/params/head/kernel/", "/ema_params/head/kernel/", "/step"} <= found["state"]["devices"].keys()


@pytest.mark.long
@pytest.mark.parametrize("stages", NAMED, ids=" and ".join)
def test_a_run_that_is_killed_at_a_stage_ends_as_one_that_was_not(whole, tmp_path, stages, record_property):
    kill_at(tmp_path, *stages)
    check(tmp_path, whole[0])
    record_property("figure", f"killed at: {' and '.join(stages)}; {figure(len(stages), whole[0])}")


@pytest.mark.long
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_was_not(whole, tmp_path, record_property):
    expected, seconds = whole
    choose, killed = random.Random(0), 0
    for number in range(3 * RANDOM):
        folder = tmp_path / str(number)
        if kill_after(folder, choose.uniform(0.2, 0.95) * seconds):
            killed += 1
            check(folder, expected)
        else:  # It had ended: its programs were in the cache, or the machine was less busy.
            seconds *= 0.9
        if killed == RANDOM:
            break
    assert killed == RANDOM
    record_property("figure", figure(killed, expected))


def two_processes(folder, *stages):
    """Runs two processes of a run, each until its stage; returns their exit statuses and errors."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        start(folder, stage, f"records{index}", PROCESS=f"{port} {index}") for index, stage in enumerate(stages)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [process.returncode for process in processes], errors


def outcome_of_two(folder):
    states = [json.loads((folder / f"records{index}" / "state.json").read_text()) for index in (0, 1)]
    assert all(state["devices"] == state["checkpoint"] == states[0]["checkpoint"] for state in states)
    return states[0], sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())


@pytest.mark.long
def test_two_processes_one_of_which_is_killed_during_a_save_end_as_those_that_were_not(tmp_path, record_property):
    codes, errors = two_processes(tmp_path / "whole", "none", "none")
    assert codes == [0, 0], errors
    expected = outcome_of_two(tmp_path / "whole")
    assert expected[1] == ["10", "8"]
    kills = [("none", "Orbax writes"), ("Orbax writes", "none"), ("manifest", "none")]
    for number, stages in enumerate(kills):
        folder = tmp_path / str(number)
        codes, errors = two_processes(folder, *stages)
        killed = stages.index("none") ^ 1
        # The other one says which has died, unless JAX aborts it because the first process has.
        assert codes[killed] == -signal.SIGKILL and codes[killed ^ 1] in (1, -signal.SIGABRT), errors
        codes, errors = two_processes(folder, "none", "none")
        assert codes == [0, 0], errors
        assert outcome_of_two(folder) == expected
    count = len(expected[0]["checkpoint"])
    record_property(
        "figure", f"kill -9 of one of two processes during a save: {len(kills)} of {len(kills)}, {count} arrays equal"
    )
