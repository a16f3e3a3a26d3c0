"""Calls to a service: their order, what happens while it is away, and that nothing waits for it for long."""

import threading
import time

from flaxseg.callbacks import outbox as outbox_module
from flaxseg.callbacks.outbox import Outbox


def test_calls_are_made_in_order_in_another_thread():
    made, outbox = [], Outbox("service")
    for number in range(100):
        outbox.put(lambda number=number: made.append((number, threading.current_thread().name)))
    outbox.close(10)
    assert made == [(number, "flaxseg-service") for number in range(100)]


def test_a_call_that_fails_is_reported_once_and_made_again_before_the_next(capsys, monkeypatch):
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE_SECONDS", 0.0)
    made, problems, tried = [], [OSError("no route\nto host"), RuntimeError("busy")], threading.Event()
    outbox = Outbox("service")

    def fail_twice():
        tried.set()
        if problems:
            raise problems.pop(0)
        made.append(1)

    for number in (2, 3):
        outbox.put(fail_twice if number == 2 else lambda: made.append(2))
        assert tried.wait(10)
        tried.clear()
    outbox.put(lambda: made.append(3))
    outbox.close(10)
    assert made == [1, 2, 3]
    assert capsys.readouterr().err == (
        "service: the log cannot be sent (no route to host); training continues, and it is sent as soon as this is "
        "possible\n"
    )


def test_a_service_that_fails_is_left_alone_for_a_while(monkeypatch):
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE_SECONDS", 60.0)
    made, outbox = [], Outbox("service")

    def fail():
        made.append(threading.current_thread())
        raise OSError("away")

    for _ in range(100):
        outbox.put(fail)
        time.sleep(0.001)
    assert len(made) == 1
    outbox.close(10)
    assert len(made) == 2


def test_the_end_does_not_wait_for_a_service_that_does_not_answer(capsys):
    answers, outbox = threading.Event(), Outbox("service")
    outbox.put(answers.wait)
    outbox.put(lambda: None)
    outbox.close(0.05)
    assert capsys.readouterr().err == "service: 2 entries of the log could not be sent\n"
    answers.set()


def test_what_cannot_be_sent_at_the_end_is_counted(capsys):
    outbox = Outbox("service")
    outbox.put(lambda: 1 / 0)
    outbox.close(10)
    assert capsys.readouterr().err.splitlines()[1:] == ["service: 1 entry of the log could not be sent"]
