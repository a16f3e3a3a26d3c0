"""Damaged and hostile files of every format: an error of one line or success, in bounded time and memory.

The files and how they are damaged are in `fuzzing/`; a case is repeated by its kind and its seed.
"""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzzing.mutations import mutated
from fuzzing.originals import KINDS, original

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
    totals = read_damaged_files(0, 500)
    assert totals["cases"] == 500 and totals["refused"] > 200 and totals["read"] > 50


@measures_memory
@pytest.mark.long
def test_ten_thousand_damaged_files_are_read_or_refused():
    totals = read_damaged_files(1_000, 10_000)
    print(totals)
    assert totals["cases"] == 10_000 and totals["refused"] > 4000 and totals["read"] > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_follows_from_its_seed(kind, monkeypatch):
    first = [mutated(kind, seed) for seed in range(9)]
    original.cache_clear()
    # Some formats record the time.
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert [mutated(kind, seed) for seed in range(9)] == first
    assert len({mutated(kind, seed) for seed in range(20)}) > 12


RUNS_CODE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "yaml", "torch"}
CALLS = {"eval", "exec", "__import__"}
RUNS_ON_PURPOSE = {"config/files.py": "run_path"}
"""A configuration file is Python code that its user chose to run."""


def offenses(code: str) -> list[str]:
    """Returns what in a file's code could run what an untrusted file contains, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names) if modules := {name.name.split(".")[0] for name in names} & RUNS_CODE:
                found += [f"{node.lineno}: imports {', '.join(modules)}"]
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in RUNS_CODE:
                found.append(f"{node.lineno}: imports from {module}")
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                found.append(f"{node.lineno}: calls {name}")
            case ast.Call(func=ast.Attribute(attr="run_path" | "run_module" as name)):
                found.append(f"{node.lineno}: calls {name}")
            case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="np" | "numpy"))):
                # The default is False, but memory is allocated as the file says.
                if not any(keyword.arg == "mmap_mode" for keyword in node.keywords):
                    found.append(f"{node.lineno}: calls np.load")
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                found.append(f"{node.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize(
    "code",
    ["import pickle", "import os, dill", "from torch import load", "eval(x)", "np.load(path)",
     "f(x, allow_pickle=True)", "f(x, allow_pickle=y)", "runpy.run_path(x)"],
)  # fmt: skip
def test_code_that_could_run_a_file_is_recognized(code):
    assert len(offenses(code)) == 1
    assert offenses(f"import numpy as np\nx = 1\ndef g():\n    {code}")[0].startswith("4: ")


def test_harmless_code_is_not_an_offense():
    assert not offenses("import pickletools\nast.literal_eval(x)\nnp.load(x, mmap_mode='r')\nf(allow_pickle=False)")


def test_nothing_in_the_package_could_run_the_content_of_a_file():
    found = {
        file.relative_to(PACKAGE).as_posix(): offenses(file.read_text(encoding="utf-8"))
        for file in PACKAGE.rglob("*.py")
    }
    wrong = {name: each for name, each in found.items() if each}
    assert set(wrong) == set(RUNS_ON_PURPOSE), wrong
    for name, call in RUNS_ON_PURPOSE.items():
        assert len(wrong[name]) == 1 and wrong[name][0].endswith(f"calls {call}")
