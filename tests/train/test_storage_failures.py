"""Runs whose disk fills up, or whose checkpoints cannot be written: they wait, and end cleanly only if they must."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time

import pytest

PROGRAM = r"""
import contextlib, ctypes, hashlib, io, json, os, resource, shutil, subprocess, sys, threading, time
from pathlib import Path

folder = Path(sys.argv[1])
disk = folder / "disk"
disk.mkdir()
mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], check=False, capture_output=True
).returncode == 0
# From now on, permissions apply, even to root: no capabilities, for this thread and those it starts.
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())

import jax
import numpy as np
from flaxseg.main import main
from flaxseg.train import loop, writers
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = ["train.steps=8", "eval.every=8", "checkpoint.every=2", "log.every=1", "log.images=0"]
OVERRIDES += ["log.writer=tensorboard"]  # Without importing TensorFlow.
run_fit, save = loop.fit, writers.CheckpointWriter.on_checkpoint


def digests(workdir):
    return {
        path.relative_to(workdir / "checkpoints").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((workdir / "checkpoints").rglob("*")) if path.is_file()
    }


def scenario(name, place, break_it, repair=None, minutes=1.0):
    '''Trains in place/name; breaks the storage before step 4 is saved, and repairs it 0.8 seconds later.'''
    workdir, found = place / name, {}

    def on_checkpoint(self, step, state, scores):
        if step == 4:
            self._checkpoints.wait()
            found["before"] = digests(workdir)
            break_it(workdir)
            found["broken"] = time.monotonic()
            if repair:
                threading.Timer(0.8, repair, [workdir]).start()
        save(self, step, state, scores)
        if step == 4 and self._checkpoints._saves.step:
            self._checkpoints._saves.join()  # So that a save that fails has failed before the next step.

    def fit(*arguments, **options):
        result = run_fit(*arguments, **options)
        found["params"] = hashlib.sha256(
            b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.state.params))
        ).hexdigest()
        return result

    writers.CheckpointWriter.on_checkpoint, loop.fit = on_checkpoint, fit
    with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        status = main([
            "--config=configs/shapes.py:tiny", f"--workdir={workdir}", f"--config.checkpoint.retry_minutes={minutes}",
            *(f"--config.{override}" for override in OVERRIDES),
        ])
    found["seconds"] = time.monotonic() - found.pop("broken")
    checkpoints = workdir / "checkpoints"
    if os.path.isdir(checkpoints):
        checkpoints.chmod(0o755)
        found["after"] = digests(workdir)
        found["names"] = sorted(os.listdir(checkpoints))
    return found | {"status": status, "error": error.getvalue()}


def fill(workdir):
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))


def free(workdir):
    (disk / "filling").unlink()


def limit_files(workdir):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def lift_limit(workdir):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def protect(workdir):
    (workdir / "checkpoints").chmod(0o555)


def replace_by_file(workdir):
    (workdir / "checkpoints").rename(workdir / "aside")
    (workdir / "checkpoints").touch()


def put_back(workdir):
    (workdir / "checkpoints").unlink()
    (workdir / "aside").rename(workdir / "checkpoints")


SCENARIOS = {
    "undisturbed": lambda: scenario("undisturbed", folder, lambda workdir: None),
    "limited": lambda: scenario("limited", folder, limit_files, lift_limit),
    "removed": lambda: scenario("removed", folder, lambda workdir: shutil.rmtree(workdir / "checkpoints")),
    "file": lambda: scenario("file", folder, replace_by_file, put_back),
    "unwritable": lambda: scenario("unwritable", folder, protect, minutes=0.01),
}
if mounted:
    SCENARIOS |= {
        "full": lambda: scenario("full", disk, fill, free),
        "full for good": lambda: scenario("for-good", disk, fill, minutes=0.01),
    }
found = {name: SCENARIOS[name]() for name in sys.argv[2:] if name in SCENARIOS}
print(json.dumps(found | {"ended": time.time()}))
"""

WAITS = (
    r"^{}: the checkpoint of step {} cannot be saved \({}; [\d.,]+ [MG]B free, [\d.]+ MB needed\); training waits, and "
    r"tries again for {} minutes$"
)
ENDS = (
    r"^error: {}: the checkpoint of step 4 could not be saved for 0\.01 minutes \({}; [\d.,]+ [MG]B free, "
    r"[\d.]+ MB needed\); the run can be resumed from step 2\. Free space, or make the directory writable, and repeat "
    r"the command$"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns what happened in some scenarios."""
    return run_scenarios(tmp_path_factory.mktemp("runs"), "undisturbed", "full", "unwritable")


@pytest.fixture(scope="module")
def more_runs(tmp_path_factory):
    """Returns what happened in the other scenarios."""
    return run_scenarios(tmp_path_factory.mktemp("runs"), "undisturbed", "limited", "removed", "file", "full for good")


def run_scenarios(folder, *names):
    """Returns what happens in each scenario; all of them run in one process, which may mount a small disk."""
    flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
    command = [sys.executable, "-c", PROGRAM, str(folder), *names]
    with contextlib.suppress(OSError):
        if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0:
            command = ["unshare", "-rm", *command]
    process = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False, timeout=300
    )
    ended = time.time()
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    # No thread of a failed save keeps the process alive.
    assert ended - found.pop("ended") < 20
    assert "Traceback" not in process.stderr
    return found


def run_named(runs, name):
    if name not in runs:
        pytest.skip("a small disk cannot be mounted")
    return runs[name]


def lines(run):
    """Returns what a run printed besides its progress bars."""
    return [line.strip() for line in re.split(r"[\r\n]", run["error"]) if "checkpoint of step" in line]


def assert_ended_like(run, undisturbed):
    assert run["status"] == 0, run["error"]
    assert run["params"] == undisturbed["params"]
    assert run["names"] == ["6", "8"]
    assert "Traceback" not in run["error"], run["error"]


def assert_waited(run, undisturbed, reason):
    assert_ended_like(run, undisturbed)
    waits, continues = lines(run)
    assert re.search(WAITS.format(r".*/checkpoints", 4, reason, 1), waits)
    assert re.search(r"/checkpoints: the checkpoint of step 4 was saved after \d+ s; training continues$", continues)


def test_a_run_waits_for_room_and_ends_like_one_that_did_not(runs):
    assert_waited(run_named(runs, "full"), runs["undisturbed"], "No space left on device")


@pytest.mark.long
def test_a_run_waits_until_its_directory_is_back(more_runs):
    assert_waited(more_runs["file"], more_runs["undisturbed"], "Not a directory")


@pytest.mark.long
def test_a_save_that_fails_in_the_background_is_replaced_after_the_next_log(more_runs):
    run = more_runs["limited"]
    assert_ended_like(run, more_runs["undisturbed"])
    waits, continues = lines(run)
    assert re.search(WAITS.format(".*/limited/checkpoints", 5, "File too large", 1), waits)
    assert re.search(r"the checkpoint of step 5 was saved after \d+ s; training continues$", continues)


@pytest.mark.long
def test_a_directory_that_was_removed_is_created_again(more_runs):
    assert_ended_like(more_runs["removed"], more_runs["undisturbed"])
    waits, continues = lines(more_runs["removed"])
    assert "step 4 cannot be saved (their directory was removed; " in waits
    assert continues.endswith("was saved after 0 s; training continues")
    assert lines(more_runs["undisturbed"]) == []


def assert_gave_up(run, folder, reason):
    assert run["status"] == 1
    waits, ends = lines(run)
    assert re.search(WAITS.format(rf".*/{folder}/checkpoints", 4, reason, r"0\.01"), waits)
    assert re.search(ENDS.format(rf".*/{folder}/checkpoints", reason), ends)
    assert run["error"].endswith("repeat the command\n") and "Traceback" not in run["error"]
    assert run["seconds"] < 30
    assert run["names"] == ["2"] and run["after"] == run["before"] and run["before"]


def test_a_run_that_cannot_save_at_all_ends_with_one_line_and_earlier_checkpoints(runs):
    assert_gave_up(runs["unwritable"], "unwritable", "Permission denied")


@pytest.mark.long
def test_a_run_without_room_for_good_ends_with_one_line_and_earlier_checkpoints(more_runs, record_property):
    run = run_named(more_runs, "full for good")
    assert_gave_up(run, "for-good", "No space left on device")
    record_property("figure", f"ended {run['seconds']:.1f} s after the disk was full")
