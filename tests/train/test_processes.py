"""Two processes with four devices each train like one process with eight."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from saved_run import save_run

from flaxseg.config.files import load_config
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.workdir import Workdir

PROGRAM = """
import json, sys
import jax

from flaxseg.train.distributed import join

index, port, workdir = int(sys.argv[1]), sys.argv[2], sys.argv[3]
join(f"localhost:{port},2,{index}")
from flaxseg.config.files import load_config
from flaxseg.train.loop import train_and_evaluate

result = train_and_evaluate(load_config("configs/shapes.py:tiny", sys.argv[4:]), workdir)
head = jax.device_get(result.state.params["head"]["kernel"])
counts = result.scores.confusion.counts.tolist()
print(json.dumps({"devices": jax.device_count(), "counts": counts, "head": head.tolist()}))
"""

OVERRIDES = [
    "train.steps=3", "augment.scale=(0.8,1.2)", "augment.brightness=0.2", "data.options.count=20",
    "log.writer=tensorboard", "log.confusion_matrix=False",
]  # fmt: skip


def start(index, devices, port, workdir, overrides):
    flags = re.sub(r"device_count=\d+", f"device_count={devices}", os.environ["XLA_FLAGS"])
    command = [sys.executable, "-c", PROGRAM, str(index), str(port), str(workdir), *OVERRIDES, *overrides]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags}, **pipes)


def trained_alone(workdir, overrides):
    """Returns the result of a run of this process alone."""
    return train_and_evaluate(load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides]), workdir)


def result_of(process):
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize(
    "overrides",
    [(), pytest.param(("data.resize=keep", "data.image_size=(24,24)"), marks=pytest.mark.long)],
    ids=["resized", "tiles"],
)
def test_two_processes_train_as_one(tmp_path, overrides):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(i, 4, port, tmp_path / "two", overrides) for i in range(2)]
    one = trained_alone(tmp_path / "one", overrides)
    first, second = (result_of(process) for process in processes)
    assert jax.device_count() == first["devices"] == 8
    assert first == second
    # 20 examples do not fill two batches of 16, and padding is excluded.
    counts = one.scores.confusion.counts.tolist()
    assert np.sum(counts) == 20 * 32 * 32
    assert first["counts"] == counts
    np.testing.assert_allclose(first["head"], one.state.params["head"]["kernel"], atol=1e-6)
    written = sorted(path.name for path in (tmp_path / "two").iterdir())
    names = ["checkpoints", "config", "data", "events", "images", "metrics", "model", "samples"]
    assert [name.split(".")[0] for name in written] == names


@pytest.mark.long
def test_two_processes_that_cache_features_train_as_one(tmp_path):
    network = [
        "model.name=unet", "model.options={}", "model.options.encoder=resnet18", "model.options.encoder_depth=3",
        "model.options.decoder_channels=(8,8,8)",
    ]  # fmt: skip
    save_run(tmp_path / "weights", scores={1: 0.5}, overrides=[*network, "log.images=0"])
    frozen = [f"model.pretrained={tmp_path / 'weights'}", "optimizer.freeze=('encoder',)"]
    overrides = [*network, *frozen, "data.cache=features", "data.cache_views=2"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(i, 2, port, tmp_path / "two", overrides) for i in range(2)]
    one = trained_alone(tmp_path / "one", [*overrides, "mesh.data=4"])
    first, second = (result_of(process) for process in processes)
    assert first == second
    np.testing.assert_allclose(first["head"], one.state.params["head"]["kernel"], atol=1e-5)


@pytest.mark.long
def test_both_processes_are_refused_a_directory_in_use(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with WorkdirLock(Workdir(tmp_path)):
        processes = [start(i, 2, port, tmp_path, ()) for i in range(2)]
        for process in processes:
            _, error = process.communicate(timeout=300)
            assert process.returncode != 0
            assert f"CheckpointError: {tmp_path}: another run is using this working directory" in error
            assert f"process {os.getpid()} on" in error
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
