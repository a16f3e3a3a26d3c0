"""One working directory, one run: who holds the lock, who is refused, and when a lock is taken over."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from flaxseg.errors import CheckpointError
from flaxseg.train import lock, lock_file
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.lock_file import this_process
from flaxseg.train.workdir import Workdir


def write_lock(directory, *, age=0.0, **changes):
    """Writes the lock of a run that differs from this process; returns the file."""
    directory.mkdir(exist_ok=True)
    path = directory / ".lock"
    path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(this_process(), **changes))))
    os.utime(path, (time.time() - age,) * 2)
    return path


def start(workdir):
    """Starts a run on one device that does not end by itself."""
    command = [sys.executable, "-m", "flaxseg.main", "--config=configs/shapes.py:tiny", f"--workdir={workdir}"]
    command += ["--config.train.steps=100000", "--config.eval.every=100000"]
    flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags}, **pipes)


def wait_for_training(process, workdir):
    """Waits until a run has logged its first steps."""
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)


@pytest.mark.long
def test_a_second_run_is_refused_until_the_first_was_killed(tmp_path):
    workdir = tmp_path / "run"
    first = start(workdir)
    wait_for_training(first, workdir)
    first.send_signal(signal.SIGSTOP)  # It leaves the processor to the others; a stopped run still holds its lock.
    second = start(workdir)
    output, error = second.communicate(timeout=300)
    assert (second.returncode, output) == (1, "")
    assert error.startswith(f"error: {workdir}: another run is using this working directory (process {first.pid} on ")
    assert error.endswith(", or give another --workdir\n") and error.count("\n") == 1 and ", since 20" in error
    first.kill()
    assert "taken over" not in first.communicate()[1]
    assert (workdir / ".lock").exists()
    (workdir / "metrics.jsonl").unlink()
    third = start(workdir)
    wait_for_training(third, workdir)
    third.send_signal(signal.SIGTERM)
    _, error = third.communicate(timeout=300)
    assert third.returncode == 128 + signal.SIGTERM, error
    assert f"{workdir}: taken over from a run that was killed (process {first.pid} on " in error
    assert not list(workdir.glob(".lock*"))


def test_a_lock_is_held_for_the_length_of_the_block_only(tmp_path):
    workdir = Workdir(tmp_path / "a" / "b")
    with pytest.raises(RuntimeError), WorkdirLock(workdir):
        with pytest.raises(CheckpointError, match=f"another run is using .*process {os.getpid()} on"):
            WorkdirLock(workdir).__enter__()
        raise RuntimeError
    # The directories were created for the lock, and nothing was written to them.
    assert list(tmp_path.iterdir()) == []
    with WorkdirLock(workdir):
        (workdir.path / "config.json").write_text("{}")
    assert os.listdir(workdir.path) == ["config.json"]


@pytest.mark.parametrize(
    ("changes", "age", "refused"),
    [
        ({}, 1000, True),
        ({"started": 5.0}, 0, False),
        ({"pid": 2**22 + 1}, 0, False),
        ({"host": "elsewhere"}, 50, True),
        ({"host": "elsewhere"}, 70, False),
        ({"system": "another container"}, 50, True),
        ({"system": "another container"}, 70, False),
    ],
)
def test_a_lock_is_taken_over_from_a_run_that_is_gone(tmp_path, capsys, changes, age, refused):
    path = write_lock(tmp_path, age=age, token="theirs", **changes)
    before = path.read_text()
    if refused:
        with pytest.raises(CheckpointError, match="another run is using") as raised, WorkdirLock(Workdir(tmp_path)):
            pass
        assert ("if it was killed, try again in 11 s" in str(raised.value)) == bool(changes)
        assert path.read_text() == before
    else:
        with WorkdirLock(Workdir(tmp_path)):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert capsys.readouterr().err.startswith(f"{tmp_path}: taken over from a run that was killed (process ")
        assert not path.exists()
    assert list(tmp_path.glob(".lock?*")) == []


def test_a_zombie_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = lock_file._start_time(psutil.Process(process.pid))
    write_lock(tmp_path, pid=process.pid, started=started)
    with pytest.raises(CheckpointError, match="another run is using"):
        WorkdirLock(Workdir(tmp_path)).__enter__()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with WorkdirLock(Workdir(tmp_path)):
        pass
    process.communicate()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 1}'])
def test_an_unfinished_lock_is_taken_over_after_a_minute(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    with pytest.raises(CheckpointError, match=r"its \.lock cannot be read.*try again in 6"):
        WorkdirLock(Workdir(tmp_path)).__enter__()
    os.utime(tmp_path / ".lock", (time.time() - 61,) * 2)
    with WorkdirLock(Workdir(tmp_path)):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("stale", [False, True])
def test_one_of_many_gets_the_lock(tmp_path, stale):
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        if stale:
            write_lock(directory, pid=2**22 + 1)
        barrier, winners, losers = threading.Barrier(8), [], []

        def run(barrier=barrier, winners=winners, losers=losers, directory=directory):
            one = WorkdirLock(Workdir(directory))
            barrier.wait()
            try:
                one.__enter__()
                winners.append(one)
            except CheckpointError:
                losers.append(one)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(winners), len(losers)) == (1, 7)
        assert [path.name for path in directory.iterdir()] == [".lock"]
        winners[0].__exit__(None, None, None)


def test_a_killed_take_over_does_not_block_the_next(tmp_path):
    write_lock(tmp_path, pid=2**22 + 1)
    claim = tmp_path / ".lock.takeover"
    for left in ("", (tmp_path / ".lock").read_text()):
        # A process of this host that is gone need not be waited for.
        write_lock(tmp_path, pid=2**22 + 1)
        claim.write_text(left)
        if not left:
            os.utime(claim, (time.time() - 61,) * 2)
        with WorkdirLock(Workdir(tmp_path)):
            assert not claim.exists()


def test_what_a_killed_take_over_has_left_is_removed(tmp_path):
    write_lock(tmp_path, pid=2**22 + 1)
    gone, there = (tmp_path / f".lock.{name}" for name in ("gone", "there"))
    (tmp_path / ".lock").rename(gone)
    write_lock(tmp_path).rename(there)
    with WorkdirLock(Workdir(tmp_path)):
        assert not gone.exists() and there.exists()


def test_a_clock_that_is_set_does_not_make_a_run_look_dead(tmp_path, monkeypatch):
    path = write_lock(tmp_path)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    assert lock_file.read_lock(path, now=time.time()).is_held


def test_a_run_that_was_suspended_notices_at_once_that_its_lock_is_lost(tmp_path):
    with WorkdirLock(Workdir(tmp_path)) as held:
        held.on_checkpoint(1, None, None)
        write_lock(tmp_path, token="theirs")
        with pytest.raises(CheckpointError, match="another run took over .* step 2 was not saved"):
            held.on_checkpoint(2, None, None)


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never became true")


def test_a_heartbeat_updates_the_lock_and_notices_its_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / ".lock"
    with WorkdirLock(Workdir(tmp_path)) as held:
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 1e9)
        held.on_checkpoint(1, None, None)
        write_lock(tmp_path, token="theirs")
        wait_for(lambda: held._is_lost)
        with pytest.raises(CheckpointError, match="another run took over .* step 2 was not saved"):
            held.on_checkpoint(2, None, None)
    assert json.loads(path.read_text())["token"] == "theirs"


def test_a_lock_that_was_deleted_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / ".lock"
    with WorkdirLock(Workdir(tmp_path)) as held:
        before = path.read_text()
        path.unlink()
        wait_for(lambda: path.exists() and path.read_text() == before)
        with pytest.raises(CheckpointError, match="another run is using"):
            WorkdirLock(Workdir(tmp_path)).__enter__()
        held.on_checkpoint(1, None, None)
    assert not path.exists()


def test_a_directory_that_cannot_be_written_to_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below", "n" * 300, "nul\0", "x" * 200 + "/" + "y" * 300, "\udcff\ud800"):
        with (
            pytest.raises(CheckpointError, match="give a --workdir that") as raised,
            WorkdirLock(Workdir(tmp_path / path)),
        ):
            pass
        assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_no_lock_behind(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(lock, "create_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        WorkdirLock(Workdir(tmp_path / "new")).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"pid": -(2**70)}, {"pid": 2**40}, {"pid": True}, {"pid": 0}, {"started": "now"}])
def test_a_lock_of_no_process_is_unreadable(tmp_path, changes):
    path = write_lock(tmp_path / "run", age=10, **changes)
    found = lock_file.read_lock(path, now=time.time())
    assert found.owner is None and found.is_held and 9 < found.age < 60
    assert not lock_file.read_lock(path, now=time.time() + 60).is_held
    path.write_text("[" * 100_000)
    assert lock_file.read_lock(path, now=0).owner is None
    path.unlink()
    assert lock_file.read_lock(path, now=0) is None
