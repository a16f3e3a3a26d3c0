"""The time that commands take to start, and its division into phases."""

import sys

import pytest
from startup_phases import exclusive_seconds

from benchmarks import startup


def test_each_moment_counts_for_the_span_that_began_last():
    spans = [("imports", 1.0, 4.0), ("compile", 2.0, 3.0), ("steps", 6.0, float("inf")), ("data", 8.0, 9.0)]
    found = exclusive_seconds(spans, 0.0, 10.0)
    assert found == {"other": 3.0, "imports": 2.0, "compile": 1.0, "steps": 3.0, "data": 1.0}
    assert sum(found.values()) == 10


def test_spans_are_cut_at_the_beginning_and_the_end():
    assert exclusive_seconds([("a", -5.0, 1.0), ("b", 3.0, 99.0), ("c", 50.0, 60.0)], 0.0, 4.0) == {
        "a": 1.0,
        "other": 2.0,
        "b": 1.0,
    }


def test_the_loss_is_awaited_in_a_terminal(tmp_path):
    code = "import sys, time; assert sys.stderr.isatty(); time.sleep(0.2); print('loss 0.5'); time.sleep(60)"
    took = startup.seconds_to_loss([sys.executable, "-c", code], cache=str(tmp_path), timeout=30)
    assert 0.2 < took < 30


def test_a_command_that_ends_without_a_loss_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match=r"no loss after[\s\S]*not a number"):
        startup.seconds_to_loss([sys.executable, "-c", "print('loss: not a number')"], cache=str(tmp_path), timeout=30)


def test_cpu_time_excludes_waiting():
    assert startup.cpu_seconds([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"]) < 0.4


@pytest.mark.long
def test_the_phases_of_a_run_add_up(tmp_path):
    found = startup.phases(
        sys.executable, ["--config=shapes:tiny", f"--workdir={tmp_path / 'run'}"], cache=str(tmp_path / "programs")
    )
    whole = found.pop("all phases")
    assert sum(found.values()) == pytest.approx(whole, abs=0.02)
    for phase in ("interpreter", "imports", "tracing and compiling", "steps", "data"):
        assert 0 <= found[phase] < whole
    assert found["imports"] > 0.1
    assert found["other"] < 0.5 * whole
