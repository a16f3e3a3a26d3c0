"""The host runs ahead of short calls only."""

import pytest

from flaxseg.train.in_flight import InFlight


class Devices:
    """Computes one call after another, each in a number of seconds, on a clock that only these calls move.

    Attributes:
      time: the time in seconds.
      computed: the numbers of the calls that the host has waited for.
    """

    def __init__(self):
        self.time, self.computed = 0.0, []

    def call(self, number, seconds):
        devices = self

        class Output:
            def block_until_ready(self):
                devices.time += seconds
                devices.computed.append(number)

        return Output()


@pytest.fixture
def devices():
    return Devices()


def waited_after_each(devices, seconds):
    """Returns the numbers of the calls that the host has waited for after it has dispatched each of them."""
    in_flight, seen = InFlight(lambda: devices.time), []
    for number, each in enumerate(seconds):
        in_flight.add(devices.call(number, each))
        seen.append(list(devices.computed))
    return seen


def test_short_calls_are_dispatched_two_ahead(devices):
    assert waited_after_each(devices, [0.4] * 5) == [[0], [0], [0], [0, 1], [0, 1, 2]]


def test_the_host_waits_for_each_long_call(devices):
    assert waited_after_each(devices, [0.5] * 4) == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_after_a_long_first_call_and_a_short_one_the_host_runs_ahead(devices):
    assert waited_after_each(devices, [30.0, 0.1, 0.1, 0.1, 0.1]) == [[0], [0, 1], [0, 1], [0, 1], [0, 1, 2]]


def test_when_calls_become_long_none_is_left_in_flight(devices):
    seen = waited_after_each(devices, [0.1, 0.1, 0.1, 2.0, 2.0, 2.0])
    assert seen[3:] == [[0, 1], [0, 1, 2], [0, 1, 2, 3, 4, 5]]
