"""A dead or stalled process ends the others with a message that names it."""

import threading

import pytest

from flaxseg.train import heartbeats
from flaxseg.train.heartbeats import Heartbeats
from tests.fake_store import FakeStores


@pytest.fixture
def quick(monkeypatch):
    """Makes the heart beat quickly, and records the reasons to exit instead of exiting."""
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(heartbeats, "DEATH_SECONDS", 1.0)
    verdicts, told = {}, threading.Event()

    def record(self, verdict):
        verdicts[self._store.index] = verdict
        self._ended.set()
        told.set()

    monkeypatch.setattr(Heartbeats, "_exit", record)
    return verdicts, told


def of(shared, index, progress=(1, 1), minutes=0.0):
    return Heartbeats(shared.of(index), lambda: progress() if callable(progress) else progress, stall_minutes=minutes)


def test_a_process_that_has_died_is_named_with_its_last_step(quick):
    verdicts, told = quick
    shared = FakeStores(3)
    dead = of(shared, 2, progress=(8, 7))
    dead._say(shared.of(2))
    with of(shared, 0), of(shared, 1):
        assert told.wait(30)
    text = next(iter(verdicts.values()))
    assert text.startswith("process 2 (") and "has died" in text and "its last known step was 7" in text


def test_a_process_that_is_done_may_end(quick):
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 1):
        pass
    with of(shared, 0):
        assert not told.wait(1.1)
    assert verdicts == {}


def test_a_stalled_process_is_named_by_all(quick):
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 0, progress=(6, 5), minutes=0.01), of(shared, 1, progress=(4, 3), minutes=0.01):
        assert told.wait(30)
    text = next(iter(verdicts.values()))
    assert "the others wait for process 1 (" in text and "the last known step was 3" in text
    assert "config.train.stall_minutes = 0.01" in text


@pytest.mark.parametrize(("position", "minutes"), [(0, 0.01), (5, 0.0)], ids=["before the first step", "never"])
def test_no_stall_is_reported_before_the_first_step_or_without_a_limit(quick, position, minutes):
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 0, (position, 0), minutes), of(shared, 1, (5, 0), minutes):
        assert not told.wait(1.1)
    assert verdicts == {}


def test_a_process_that_goes_on_slowly_is_not_stalled(quick):
    verdicts, told = quick
    shared, position = FakeStores(2), iter(range(1, 10**9))
    with of(shared, 0, lambda: (next(position), 1), 0.01), of(shared, 1, minutes=0.01):
        assert not told.wait(1.1)
    assert verdicts == {}


def test_an_error_of_one_process_ends_the_others_at_once(quick):
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 0), of(shared, 1) as failing:
        failing.explain(ValueError("no such image\nmore"))
        assert told.wait(30)
    assert "process 1 (" in next(iter(verdicts.values()))
    assert next(iter(verdicts.values())).endswith("ended with ValueError: no such image")


def test_processes_that_raise_the_same_error_end_by_themselves(quick):
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 0) as first, of(shared, 1) as second:
        for each in (first, second):
            each.explain(ValueError("disk full"))
        assert not told.wait(0.5)
    assert verdicts == {}


def test_a_process_that_hangs_after_an_error_exits(quick, monkeypatch):
    monkeypatch.setattr(heartbeats, "_VERDICT_SECONDS", 0.2)
    verdicts, told = quick
    shared = FakeStores(2)
    with of(shared, 0) as failing:
        failing.explain(ValueError("disk full"))
        assert told.wait(30)
    assert verdicts[0].endswith("ended with ValueError: disk full")


def test_the_first_process_is_named_in_the_logs_of_the_others(quick, capsys):
    shared = FakeStores(2)
    first, second = of(shared, 0), of(shared, 1)
    for each in (second, first, second, second):
        store = shared.of(1 if each is second else 0)
        each._say(store)
        each._hear(store.all("alive"))
    error = capsys.readouterr().err
    assert error.startswith("process 1 of 2; process 0 (") and error.count("coordinates them") == 1


def test_a_lost_store_names_the_first_process(quick):
    verdicts, told = quick
    shared = FakeStores(2)
    shared.fail()
    with of(shared, 1):
        assert told.wait(30)
    assert verdicts[1].startswith("process 0, which coordinates the processes, has ended")
