"""A key-value store of several processes that are threads of one process."""

import threading

from flaxseg.train.coordination import StoreError


class FakeStores:
    """The contents that the stores of all processes share."""

    def __init__(self, count):
        self.count = count
        self.values = {}
        self.changed = threading.Condition()
        self.is_reachable = True

    def of(self, index):
        return FakeStore(self, index)

    def fail(self):
        with self.changed:
            self.is_reachable = False
            self.changed.notify_all()


class FakeStore:
    """What `flaxseg.train.coordination.Store` does, for the process of an index."""

    def __init__(self, shared, index):
        self.shared = shared
        self.index = index
        self.count = shared.count
        self.address = ""

    def set(self, key, value):
        with self.shared.changed:
            self._check()
            self.shared.values[key] = value
            self.shared.changed.notify_all()

    def set_once(self, key, value):
        with self.shared.changed:
            if key in self.shared.values:
                return False
            self.set(key, value)
            return True

    def wait(self, key, *, seconds):
        with self.shared.changed:
            self.shared.changed.wait_for(lambda: key in self.shared.values or not self.shared.is_reachable, seconds)
            self._check()
            return self.shared.values.get(key)

    def all(self, prefix):
        with self.shared.changed:
            self._check()
            start = f"{prefix}/"
            return {key.removeprefix(start): v for key, v in self.shared.values.items() if key.startswith(start)}

    def _check(self):
        if not self.shared.is_reachable:
            raise StoreError("not reachable")
