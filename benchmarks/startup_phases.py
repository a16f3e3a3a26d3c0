"""Runs a training command until its first loss is known, and prints the seconds of each phase as JSON.

startup.py calls it: `python benchmarks/startup_phases.py BEGIN --config=shapes ...`, where BEGIN is the time at which
the process was started. Imports, tracing, compiling and a few functions are recorded as spans of the main thread. A
moment counts for the span that began last, so that an import within a compilation is an import.
"""

import builtins
import collections
import functools
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

Span = tuple[str, float, float]
"""The name of a phase, when it began, and when it ended."""

RECORDED = (
    ("flaxseg.config.files", "load_config", "configuration"),
    ("flaxseg.config.validate", "validate", "configuration"),
    ("flaxseg.train.build", "build_data", "data"),
    ("flaxseg.train.state", "restore_or_create", "state"),
    ("flaxseg.train.describe", "describe", "tables of parameters"),
    ("flaxseg.train.checkpoints", "Checkpoints.__init__", "checkpoints"),
    ("flaxseg.report.tensorboard", "Summaries.__init__", "event files"),
    ("flaxseg.report.tensorboard", "Summaries.start", "event files"),
    ("flaxseg.train.fit", "fit", "steps"),
)
"""The functions that are recorded: module, name, and phase; those that do not exist are left out."""

COMPILE_EVENTS = "/jax/core/compile/"
OTHER = "other"


def exclusive_seconds(spans: Iterable[Span], begin: float, end: float) -> dict[str, float]:
    """Returns the seconds of each phase between two moments, where each moment counts for the span that began last."""
    clipped = [(name, max(first, begin), min(last, end)) for name, first, last in spans if first < end and last > begin]
    moments = sorted({begin, end, *(moment for _, *moments in clipped for moment in moments)})
    found: dict[str, float] = collections.defaultdict(float)
    ordered = sorted(clipped, key=lambda span: span[1])
    active: list[Span] = []
    for now, following in itertools.pairwise(moments):
        while ordered and ordered[0][1] <= now:
            active.append(ordered.pop(0))
        active = [span for span in active if span[2] > now]
        found[active[-1][0] if active else OTHER] += following - now
    return dict(found)


class Recorder:
    """Records the spans of the main thread, from now on."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._started = time.time()
        self._depth = 0
        self._import = builtins.__import__
        self._pending: dict[str, list[Callable[[Any], None]]] = collections.defaultdict(list)
        self._pending["jax.monitoring"].append(self._listen)
        self._pending["flaxseg.train.progress"].append(self._end_at_first_log)
        for module, name, phase in RECORDED:
            self._pending[module].append(functools.partial(self._wrap, name=name, phase=phase))
        builtins.__import__ = self._timed_import

    def _timed_import(self, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return self._import(*arguments, **options)
        self._depth += 1
        begin = time.time()
        try:
            return self._import(*arguments, **options)
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.spans.append(("imports", begin, time.time()))
            self._change_imported()

    def _change_imported(self) -> None:
        """Changes the modules whose functions are recorded, once they are imported."""
        for module in [name for name in self._pending if name in sys.modules]:
            spec = getattr(sys.modules[module], "__spec__", None)
            if not getattr(spec, "_initializing", False):
                for change in self._pending.pop(module):
                    change(sys.modules[module])

    def _wrap(self, module: Any, *, name: str, phase: str) -> None:
        *path, name = name.split(".")
        owner = functools.reduce(lambda found, part: getattr(found, part, None), path, module)
        function = getattr(owner, name, None)
        if function is None:
            return

        @functools.wraps(function)
        def recorded(*arguments: Any, **options: Any) -> Any:
            begin = time.time()
            # Unlike an end, the beginning is known at once, and `fit` never returns here.
            index = len(self.spans)
            self.spans.append((phase, begin, float("inf")))
            try:
                return function(*arguments, **options)
            finally:
                self.spans[index] = (phase, begin, time.time())

        setattr(owner, name, recorded)

    def _listen(self, monitoring: Any) -> None:
        def compiled(event: str, begin: float, end: float, **_: Any) -> None:
            if event.startswith(COMPILE_EVENTS) and threading.current_thread() is threading.main_thread():
                self.spans.append(("tracing and compiling", begin, end))

        monitoring.register_event_time_span_listener(compiled)

    def _end_at_first_log(self, module: Any) -> None:
        module.ProgressBar.on_log = lambda *_: self._report(time.time())

    def _report(self, now: float) -> None:
        """Prints the phases until now, and ends the process."""
        begin = float(sys.argv[1])
        spans = [("interpreter", begin, self._started), *self.spans]
        found = exclusive_seconds(spans, begin, now)
        print(json.dumps({name: round(seconds, 3) for name, seconds in {**found, "all phases": now - begin}.items()}))
        sys.stdout.flush()
        os._exit(0)


def main() -> None:
    """Runs the command that the arguments after the first are those of."""
    Recorder()
    from flaxseg.main import main as train

    sys.exit(train(sys.argv[2:]))


if __name__ == "__main__":
    main()
