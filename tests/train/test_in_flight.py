"""The host waits for all but the last two calls."""

from flaxseg.train.in_flight import InFlight


class Output:
    def __init__(self, name, waited):
        self._name, self._waited = name, waited

    def block_until_ready(self):
        self._waited.append(self._name)


def test_the_host_waits_for_all_calls_but_the_last_two():
    in_flight, waited = InFlight(), []
    seen = []
    for name in range(5):
        in_flight.add(Output(name, waited))
        seen.append(list(waited))
    assert seen == [[], [], [0], [0, 1], [0, 1, 2]]
