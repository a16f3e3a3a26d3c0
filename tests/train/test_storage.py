"""Whether a directory can take a checkpoint, when to try again, and what becomes of the checkpoints there are."""

import errno
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import CheckpointError
from flaxseg.train import background_save, checkpoint_saves, storage
from flaxseg.train import checkpoints as checkpoints_module
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.storage import Retries, reason, storage_problem


def test_there_is_room_and_nothing_is_left_behind(tmp_path):
    assert storage_problem(tmp_path / "new", 100_000_000) == ""
    assert storage_problem(tmp_path / "new", 1000, reserve=False) == ""
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("reserve", [True, False])
def test_more_than_the_disk_has_is_refused_with_figures(tmp_path, reserve):
    problem = storage_problem(tmp_path, 10**18, reserve=reserve)
    assert problem.startswith("No space left on device; ")
    assert problem.endswith(" GB free, 1,000,000,000.00 GB needed")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_is_asked_for_its_free_space(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_allocate", lambda *_: False)
    assert storage_problem(tmp_path, 1000) == ""
    assert storage_problem(tmp_path, 10**18).startswith("No space left on device; ")


def test_the_parents_of_a_removed_directory_are_not_created(tmp_path):
    problem = storage_problem(tmp_path / "unmounted" / "checkpoints", 1000)
    assert problem.startswith("No such file or directory; ") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded"),
        (ValueError("RESOURCE_EXHAUSTED: Failed: [os_error_code='28']"), "No space left on device"),
        (ValueError("one line\nanother"), "one line"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_reason_of_an_error_is_one_line(error, expected):
    assert reason(error) == expected


def test_pauses_double_until_the_time_is_over(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(storage.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    retries, tries = Retries(5, lambda: False), []
    while retries.wait():
        tries.append(round(now[0]))
    assert tries == pytest.approx([1, 3, 7, 15, 31, 63, 123, 183, 243, 300], abs=1.5)
    assert retries.seconds == pytest.approx(300, abs=1) and not retries.is_stopped


def test_a_run_that_is_to_stop_tries_once_more():
    stop = []
    retries = Retries(60, lambda: bool(stop))
    stop.append(True)
    assert [retries.wait(), retries.wait()] == [True, False] and retries.is_stopped


def state(value):
    return {"kernel": jnp.full((4, 8), value)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three checkpoints, the first of which is the best."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        for step, miou in ((1, 0.9), (2, 0.5), (3, 0.6)):
            checkpoints.save(step, state(float(step)), {"miou": miou})
    return directory


@pytest.fixture
def directory(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_FIRST_PAUSE", 0.05)
    return shutil.copytree(saved, tmp_path / "checkpoints")


def steps(directory):
    return sorted(path.name for path in directory.iterdir())


def fail_times(monkeypatch, count):
    """Lets the manifests of the next saves fail as on a full disk."""
    write, failures = checkpoint_saves.write_manifest, [OSError(errno.ENOSPC, "No space left on device")] * count

    def fail(*arguments, **options):
        if failures:
            raise failures.pop()
        write(*arguments, **options)

    monkeypatch.setattr(checkpoint_saves, "write_manifest", fail)


def test_a_lost_save_is_replaced_by_the_next_state_and_its_scores_are_forgotten(directory, monkeypatch, capsys):
    with Checkpoints(directory, keep=2, best_metric="miou", retry_minutes=1) as checkpoints:
        fail_times(monkeypatch, 1)
        checkpoints.save(4, state(4.0), {"miou": 0.95})
        assert checkpoints.best_step == 4
        while not checkpoints.has_failed():
            pass
        checkpoints.save(5, state(5.0))
        assert (checkpoints.best_step, checkpoints.improved_step) == (1, 4)
        assert steps(directory) == ["1", "3", "5"]
    waits, continues = capsys.readouterr().err.splitlines()
    assert f"{directory}: the checkpoint of step 5 cannot be saved (No space left on device; " in waits
    assert continues == f"{directory}: the checkpoint of step 5 was saved after 0 s; training continues"


def test_scores_that_cannot_be_added_are_tried_again(directory, monkeypatch):
    add, failures = checkpoints_module.add_scores, [OSError(errno.ENOSPC, "No space left on device")]

    def fail(*arguments):
        if failures:
            raise failures[0]
        add(*arguments)

    monkeypatch.setattr(checkpoints_module, "add_scores", fail)
    monkeypatch.setattr(storage, "_FIRST_PAUSE", 0.01)
    with Checkpoints(directory, keep=2, best_metric="miou", retry_minutes=0) as checkpoints:
        checkpoints.save(4, state(4.0))
        checkpoints.wait()
        ends = r"the scores of .*checkpoint of step 4 could not be saved \(No space left on device; .* needed\); it is"
        with pytest.raises(CheckpointError, match=ends):
            checkpoints.save(4, state(4.0), {"miou": 0.95})
    with Checkpoints(directory, keep=2, best_metric="miou", retry_minutes=1) as checkpoints:
        assert checkpoints.lacks_scores(4)
        threading.Timer(0.1, failures.clear).start()
        checkpoints.save(4, state(4.0), {"miou": 0.95})
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.best_step == 4 and not checkpoints.lacks_scores(4)


def test_the_last_save_is_repeated_with_its_scores(directory, monkeypatch):
    with Checkpoints(directory, keep=2, best_metric="miou", retry_minutes=1) as checkpoints:
        fail_times(monkeypatch, 2)
        checkpoints.save(4, state(4.0), {"miou": 0.95})
        checkpoints.finish(4, state(4.0))
        assert checkpoints.best_step == 4
    assert steps(directory) == ["3", "4"]


def test_without_retrying_it_is_an_error_at_once(directory, monkeypatch):
    monkeypatch.setattr(checkpoint_saves, "storage_problem", lambda *_, **__: "Read-only file system; 1 MB free")
    with (
        pytest.raises(CheckpointError, match=r"step 4 could not be saved .*\(Read-only file system; .* from step 3"),
        Checkpoints(directory, keep=2, best_metric="miou") as checkpoints,
    ):
        checkpoints.save(4, state(4.0))
    assert steps(directory) == ["1", "2", "3"]


def test_a_run_that_is_to_stop_ends_without_a_checkpoint_that_cannot_be_saved(directory, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint_saves, "storage_problem", lambda *_, **__: "Disk quota exceeded; 1 MB free")
    with Checkpoints(directory, keep=2, best_metric="miou", retry_minutes=60) as checkpoints:
        checkpoints.should_stop = lambda: True
        checkpoints.save(4, state(4.0))
    (line,) = capsys.readouterr().err.splitlines()
    assert "step 4 was not saved, because the run is to stop (Disk quota exceeded; 1 MB free); " in line
    assert line.endswith("the run can be resumed from step 3")


def test_a_removed_checkpoint_is_no_longer_the_best(directory, capsys):
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.wait()
        shutil.rmtree(directory)
        checkpoints.save(5, state(5.0), {"miou": 0.1})
        assert checkpoints.best_step == 5
    assert steps(directory) == ["5"]
    assert "step 5 was saved after 0 s; training continues" in capsys.readouterr().err


def test_checkpoints_of_older_versions_are_deleted_when_newer_ones_fill_their_places(directory):
    for step in ("1", "2", "3"):
        (directory / step / "manifest.json").unlink()
    (directory / "4.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        assert steps(directory) == ["1", "2", "3", "4.orbax-checkpoint-tmp"]
        checkpoints.save(4, state(4.0))
        checkpoints.wait()
        assert steps(directory) == ["3", "4"]
        checkpoints.save(5, state(5.0))
    assert steps(directory) == ["4", "5"]


def test_no_thread_is_left_after_a_failure(directory, monkeypatch):
    fail_times(monkeypatch, 1)
    with pytest.raises(CheckpointError), Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(4, state(4.0))
    names = [type(thread).__module__ for thread in background_save.threading.enumerate()]
    assert not [name for name in names if name.startswith("orbax")]
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        like = {"kernel": jax.ShapeDtypeStruct((4, 8), jnp.float32, sharding=jnp.zeros(1).sharding)}
        np.testing.assert_array_equal(checkpoints.restore_latest(like)["kernel"], np.full((4, 8), 3.0))
