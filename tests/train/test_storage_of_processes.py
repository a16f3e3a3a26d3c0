"""Two processes, one of which cannot write: both notice it, wait and save together."""

import os
import re
import socket
import subprocess
import sys

import pytest

from flaxseg.models.pretrained.manifest import read_manifest

PROGRAM = """
import os, resource, sys, threading, unittest.mock
import jax

index, port, workdir, minutes = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
jax.distributed.initialize(f"localhost:{port}", 2, index)
from flaxseg.config.files import load_config
from flaxseg.errors import CheckpointError
from flaxseg.train import loop, writers
from flaxseg.train.loop import train_and_evaluate

loop.Summaries = unittest.mock.MagicMock()
save = writers.CheckpointWriter.on_checkpoint


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def on_checkpoint(self, step, state, scores):
    if step == 4:
        self._checkpoints.wait()
        if index == 1:
            limit(3000)
            if minutes == 1:
                threading.Timer(1, limit, [resource.RLIM_INFINITY]).start()
    save(self, step, state, scores)
    if step == 4:
        self._checkpoints._saves.join()


writers.CheckpointWriter.on_checkpoint = on_checkpoint
overrides = ["train.steps=8", "eval.every=8", "checkpoint.every=2", "log.every=1", "mesh.fsdp=2"]
config = load_config("configs/shapes.py:tiny", [*overrides, f"checkpoint.retry_minutes={minutes}"])
try:
    train_and_evaluate(config, workdir)
    print("finished")
except CheckpointError as error:
    print(error)
"""


def train(workdir, minutes):
    """Returns the last line and the errors of each process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(index), str(port), str(workdir), str(minutes)],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    return [output.splitlines()[-1] for output, _ in results], [error for _, error in results]


@pytest.mark.long
def test_both_replace_a_checkpoint_that_one_could_not_write(tmp_path):
    last, errors = train(tmp_path, 1)
    assert last == ["finished", "finished"]
    assert "the checkpoint of step 5 cannot be saved (File too large; " in errors[0]
    assert "the checkpoint of step 5 was saved after " in errors[0]
    assert "checkpoint of" not in errors[1] and "Traceback" not in errors[0] + errors[1]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["6", "8"]
    # Each process holds one half of what is sharded, and both are in the manifest.
    halves = [len(parts) for parts in read_manifest(tmp_path / "checkpoints" / "8").arrays.values()]
    assert set(halves) == {1, 2}


@pytest.mark.long
def test_both_end_with_the_same_error(tmp_path):
    last, errors = train(tmp_path, 0.02)
    assert last[0] == last[1]
    assert "step 5 could not be saved for 0.02 minutes (File too large; " in last[0]
    assert "Traceback" not in errors[0] + errors[1]
    assert os.listdir(tmp_path / "checkpoints") == ["2"]
