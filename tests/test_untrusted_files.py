"""Damaged and hostile files of every format: an error of one line or success, in bounded time and memory.

The files and how they are damaged are in `fuzzing/`; a case is repeated by its kind and its seed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzzing.mutations import mutated
from fuzzing.originals import KINDS, original
from representatives import representatives

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flaxseg"

measures_memory = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as on Linux")


def read_damaged_files(first: int, count: int) -> dict:
    """Reads files in a process of its own, and returns its totals.

    Raises:
      AssertionError: a file ended the process, or was read wrongly; the message has the command that repeats it.
    """
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])))
    command = [sys.executable, "-m", "fuzzing", str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    failures = [json.loads(line) for line in lines if line.startswith('{"case"')]
    repeat = "PYTHONPATH=.:tests python -m fuzzing"
    assert done.returncode == 0, f"{repeat} {lines[-1:]} ended the process:\n{done.stderr[-2000:]}"
    assert not failures, "\n".join(f"{repeat} {failure['case']}: {failure['wrong']}" for failure in failures)
    return json.loads(lines[-1])


@measures_memory
def test_damaged_files_are_read_or_refused():
    totals = read_damaged_files(0, 250)
    assert totals["cases"] == 250 and totals["refused"] > 100 and totals["read"] > 25


@measures_memory
@pytest.mark.long
def test_ten_thousand_damaged_files_are_read_or_refused(record_property):
    totals = read_damaged_files(1_000, 10_000)
    record_property("figure", ", ".join(f"{name} {value}" for name, value in totals.items()))
    assert totals["cases"] == 10_000 and totals["refused"] > 4000 and totals["read"] > 1000


@pytest.mark.parametrize("kind", representatives(KINDS, list(KINDS)[::4]))
def test_a_case_follows_from_its_seed(kind, monkeypatch):
    first = [mutated(kind, seed) for seed in range(9)]
    original.cache_clear()
    # Some formats record the time.
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert [mutated(kind, seed) for seed in range(9)] == first
    assert len({mutated(kind, seed) for seed in range(20)}) > 12
