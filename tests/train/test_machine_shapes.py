"""A run that is resumed on other numbers of devices, and with other meshes, as one that stays on one device."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import recorded_run

from flaxseg.config.files import load_config
from flaxseg.train import fit, loop
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.progress import ProgressBar

ONE = (1, ["mesh.data=1"])
FSDP = [ONE, (8, []), (2, ["mesh.fsdp=2"]), ONE]
"""The devices and the mesh of each part of a run."""

SPATIAL = [ONE, (8, ["mesh.fsdp=2", "mesh.spatial=2"]), (4, ["mesh.spatial=4"]), (2, ["mesh.spatial=2"]), ONE]
LAST_STEPS = (2, 5, 7, 9)
"""After which the parts of a run end; the last part ends at step 10."""

TOLERANCE = 1e-5


def stages_of(shapes):
    return [*(f"stop at {step}" for step in LAST_STEPS[: len(shapes) - 1]), "none"]


def examples(records):
    """Returns the examples of each step, and digests of their images; no step is repeated."""
    rows = [json.loads(row) for row in (records / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return rows


def losses(workdir):
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def compare(folder, one, shapes):
    """Compares a run on machines of different shapes with that on one device, and returns a figure."""
    assert examples(folder / "records") == examples(one / "records")
    found, expected = losses(folder / "run"), losses(one / "run")
    assert found.keys() == expected.keys() == set(range(1, 11))
    largest = max(abs(found[step] - expected[step]) / abs(expected[step]) for step in expected)
    assert largest < TOLERANCE
    words = [f"{count} {' '.join(each.removeprefix('mesh.') for each in mesh)}".strip() for count, mesh in shapes]
    return f"devices {' -> '.join(words)}: the examples of 10 steps equal, losses within {largest:.1g}"


def train_here(folder, mesh, stage):
    """Trains in this process, which has eight devices, and stops at a stage."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((loop, "compile_run"), (fit, "evaluate"), (loop, "fit"), (ProgressBar, "on_step")):
            patch.setattr(owner, name, getattr(owner, name))  # Restored at the end.
        recorded_run.prepare(stage)
        recorded_run.record(folder / "records")
        overrides = [*recorded_run.OVERRIDES, "eval.every=10", "checkpoint.every=10", *mesh]
        train_and_evaluate(load_config("configs/shapes.py:tiny", overrides), folder / "run")


@pytest.mark.long
def test_a_run_goes_on_with_other_meshes(tmp_path, record_property):
    train_here(tmp_path / "one", ONE[1], "none")
    shapes = [ONE, (8, ["mesh.data=2", "mesh.fsdp=2", "mesh.spatial=2"]), ONE]
    for (_, mesh), stage in zip(shapes, stages_of(shapes), strict=True):
        train_here(tmp_path / "parts", mesh, stage)
    record_property("figure", compare(tmp_path / "parts", tmp_path / "one", shapes))


def train_there(folder, count, mesh, stage):
    """Trains in a process with a number of devices, and stops at a stage."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    flags = re.sub(r"device_count=\d+", f"device_count={count}", os.environ["XLA_FLAGS"])
    words = [str(folder / "records"), stage, f"--workdir={folder / 'run'}", *(f"--config.{key}" for key in mesh)]
    process = subprocess.run(
        [sys.executable, recorded_run.__file__, *words],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(recorded_run.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == (0 if stage == "none" else 128 + signal.SIGTERM), process.stderr


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Returns the folder of a run in one process with one device."""
    folder = tmp_path_factory.mktemp("one")
    train_there(folder, *ONE, "none")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("shapes", [FSDP, SPATIAL], ids=["fsdp", "spatial"])
def test_a_run_goes_on_on_machines_with_other_devices(one, tmp_path, shapes, record_property):
    for (count, mesh), stage in zip(shapes, stages_of(shapes), strict=True):
        train_there(tmp_path, count, mesh, stage)
    record_property("figure", compare(tmp_path, one, shapes))
