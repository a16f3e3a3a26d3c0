"""All processes stop at the same place, wherever each of them is when a signal is announced."""

import random
import signal
import threading
import time

import pytest

from flaxseg.train import agreement
from flaxseg.train.agreement import StopAgreement
from tests.fake_store import FakeStores


def test_a_single_process_stops_at_the_next_call():
    one = StopAgreement(None)
    assert [one.should_stop() for _ in range(3)] == [False] * 3
    assert one.has_begun and one.number == 0
    one.announce(signal.SIGTERM)
    one.announce(signal.SIGINT)
    assert one.should_stop() and one.should_stop()
    assert one.position == 3 and one.number == signal.SIGTERM


@pytest.mark.parametrize("seed", range(10))
def test_all_processes_stop_at_the_same_position(seed):
    random_ = random.Random(seed)
    count = random_.choice([2, 3, 8])
    shared, left = FakeStores(count), []
    agreements = [StopAgreement(shared.of(index)) for index in range(count)]
    delays = [random_.uniform(0, 0.002) for _ in range(count)]
    announcers = {random_.randrange(count): random_.randrange(1, 40) for _ in range(random_.choice([1, 2]))}
    reached, before = [0] * count, {}

    def train(index):
        while not agreements[index].should_stop():
            reached[index] += 1
            if announcers.get(index) == reached[index]:
                before[index] = reached[index]
                agreements[index].announce(signal.SIGUSR1)
            time.sleep(delays[index])

    for each in agreements:
        each.start(left.append, left.append)
    # Processes that have taken no step would exit at once.
    for each in agreements:
        assert not each.should_stop()
    threads = [threading.Thread(target=train, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not left
    assert len(set(reached)) == 1
    assert reached[0] >= min(before.values())
    assert {each.number for each in agreements} == {signal.SIGUSR1}


def test_if_one_process_has_not_begun_all_leave_and_the_first_is_the_last(monkeypatch):
    monkeypatch.setattr(agreement, "_FAREWELL_SECONDS", 20.0)
    shared, left, done = FakeStores(3), [], threading.Event()

    def leave(index):
        def record(status):
            left.append((index, status))
            if len(left) == 3:
                done.set()

        return record

    agreements = [StopAgreement(shared.of(index)) for index in range(3)]
    assert not agreements[0].should_stop() and not agreements[2].should_stop()
    for index, each in enumerate(agreements):
        each.start(leave(index), left.append)
    agreements[2].announce(signal.SIGTERM)
    assert done.wait(30)
    assert {status for _, status in left} == {143}
    assert left[-1][0] == 0


def test_a_process_that_does_not_answer_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(agreement, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(agreement, "_FAREWELL_SECONDS", 0.2)
    shared, left = FakeStores(2), []
    first = StopAgreement(shared.of(0))
    assert not first.should_stop()
    first.start(lambda status: left.append(status) or done.set(), left.append)
    done = threading.Event()
    first.announce(signal.SIGTERM)
    assert done.wait(30)
    assert left == [143]


def test_a_lost_store_is_reported_unless_the_run_has_ended():
    shared, other, lost = FakeStores(2), FakeStores(2), []
    told = threading.Event()
    first, second = StopAgreement(shared.of(0)), StopAgreement(other.of(0))
    first.start(lost.append, lambda error: lost.append(str(error)) or told.set())
    second.start(lost.append, lost.append)
    second.close()
    shared.fail()
    other.fail()
    assert told.wait(30)
    assert lost == ["not reachable"]
