"""A run whose step 5 is not finite: it stops with the state before that step, skips it, or returns to a checkpoint."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import unittest.mock

import jax
import numpy as np
import pytest
from fragile_loss import NAME, checksum

from flaxseg.config.files import load_config
from flaxseg.errors import DataError, TrainingError
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import ConfusionMatrix
from flaxseg.train import fit, loop, recovery
from flaxseg.train.build import build
from flaxseg.train.callbacks import Callback
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.replay import replay
from flaxseg.train.sharding import place_batch
from flaxseg.train.state import restore_or_create
from flaxseg.train.step_record import read_record, write_record

OVERRIDES = [
    "train.batch_size=8", "train.steps=8", "eval.every=8", "checkpoint.every=4", "log.every=8",
    "optimizer.ema_decay=0.9", "augment.brightness=0.2", "model.options.decoder_dropout=0.2",
    "loss.cross_entropy=0", f"loss.{NAME}=1.0",
]  # fmt: skip

FIRST = {0: [0, 4, 14, 11, 6, 1, 5, 12], 1: [0, 8, 15, 7, 4, 12, 8, 6], 2: [3, 13, 6, 1, 15, 6, 8, 2]}
"""The first example of the batches of the eight steps, by the number of returns to a checkpoint."""


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Leaves out evaluation and TensorBoard, which are not tested here, and compiles each network once."""
    compiled = {}

    def compile_once(run, state):
        key = float(run.optim.schedule(2)), run.loop.call.steps
        if key not in compiled:
            compiled[key] = compile_run(run, state)
        return compiled[key]

    metrics = EvalMetrics(ConfusionMatrix(np.eye(5, dtype=np.int64)))
    evaluation = Evaluation(metrics, metrics.compute())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "evaluate", lambda *_, shows_images, should_stop=None: evaluation)
        patch.setattr(loop, "compile_run", compile_once)
        patch.setattr(loop, "Summaries", unittest.mock.MagicMock())
        yield


@pytest.fixture(scope="module")
def at():
    """Returns the option of the loss that makes it NaN where example 6 is the first of a batch."""
    label = build(load_config("configs/shapes.py:tiny")).data.train.source[6]["label"]
    return f"loss_options.{NAME}.at={int(checksum(label))}"


def config_of(at, *overrides):
    return load_config("configs/shapes.py:tiny", [*OVERRIDES, at, *overrides])


def states_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((first, second)))


def test_the_order_depends_on_the_number_of_returns(at):
    run = build(config_of(at))
    for count, expected in FIRST.items():
        other = recovery.after_rollbacks(run, count)
        assert [int(other.data.train_batches[step]["index"][0]) for step in range(8)] == expected
        keys = [jax.random.key_data(each.loop.step_key).tolist() for each in (run, other)]
        assert (keys[0] == keys[1]) == (count == 0)
    assert recovery.after_rollbacks(run, 0).data.train_batches is run.data.train_batches


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, at):
    """Returns directory, message and dispatched steps of a run that stopped at step 5, and the checkpoint of step 4."""
    workdir, steps = tmp_path_factory.mktemp("stopped"), []
    callback = Callback()
    callback.on_step = lambda step, metrics: steps.append(step)
    with pytest.raises(TrainingError) as raised:
        train_and_evaluate(config_of(at), workdir, callbacks=[callback])
    run = build(config_of(at))
    with Checkpoints(workdir / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 4
        before = restore_or_create(run, checkpoints, lambda: None)
    return workdir, str(raised.value), steps, run, before


def test_the_error_names_the_step_the_part_and_the_examples(stopped):
    workdir, message, _, run, _ = stopped
    ids = [run.data.train.source.example_id(i) for i in run.data.train_batches[4]["index"]]
    assert message.startswith(
        f"step 5: the loss is not finite, although every image is (not finite: {NAME}, loss = nan, grad_norm = "
    )
    assert f"The batch: {', '.join(ids)}" in message
    assert str(workdir / "non_finite" / "step_0000005.npz") in message


def test_steps_dispatched_ahead_are_not_taken(stopped):
    """The state in the file is the last one on the devices, three steps after the one that was not finite."""
    workdir, _, steps, run, before = stopped
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    record = read_record(workdir / "non_finite" / "step_0000005.npz")
    assert (record.step, record.kind, record.rollbacks) == (5, "loss", 0)
    states_equal(record.state_like(before), before)
    for name, value in run.data.train_batches[4].items():
        np.testing.assert_array_equal(record.batch[name], value)


def test_the_step_can_be_run_again_without_the_dataset(stopped, monkeypatch):
    workdir = stopped[0]
    monkeypatch.setattr("flaxseg.train.parts.data.open_dataset", None)
    found = replay(workdir / "non_finite" / "step_0000005.npz")
    assert found.is_reproduced and found.found.parts == (NAME,)
    assert len(found.examples) == 8 and found.examples[0] == stopped[3].data.train.source.example_id(6)
    assert (found.images, found.augmented, found.logits, found.state) == ((), (), (), ())
    assert "params/head/kernel" in found.gradient and "params/head/kernel" in found.update
    assert "here, the same: step 5: the loss is not finite" in str(found)
    assert "images, as stored           finite" in str(found)


def test_a_skipped_step_has_no_effect(stopped, tmp_path, at):
    """The run of the policy `skip` equals taking steps 1 to 4, then 6 to 8, by hand."""
    workdir, _, _, run, before = stopped
    scalars = {}
    callback = Callback()
    callback.on_log = lambda step, values, metrics: scalars.update({step: values})
    config = config_of(at, "train.non_finite=skip")
    result = train_and_evaluate(config, workdir, callbacks=[callback])
    assert (result.skipped_steps, int(result.state.step)) == (1, 8)
    assert scalars[8]["skipped_steps"] == 1 and np.isfinite(scalars[8]["loss"])
    compiled, key = loop.compile_run(run, before), run.loop.step_key
    state, by_hand = before.replace(step=before.step + 1), []
    for step in (5, 6, 7):
        batch = place_batch(run.data.train_batches[step], run.loop.mesh)
        state, metrics, _ = compiled.train(state, batch, key, {}, Turn(step, 0, max_skipped=0))
        by_hand.append(metrics.compute()["loss"])
    states_equal(result.state, state)
    assert scalars[8]["loss"] == pytest.approx(np.mean(by_hand), rel=1e-6)
    with Checkpoints(workdir / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert dict(checkpoints.counts(8)) == {"rollbacks": 0, "skipped_steps": 1}
    again = train_and_evaluate(config, workdir)
    assert again.skipped_steps == 1


@pytest.mark.long
def test_a_step_within_a_call_is_skipped_or_ends_the_run(stopped, tmp_path, at):
    """Step 5 is in the middle of the only call."""
    overrides = ["train.steps_per_call=8", "checkpoint.every=8"]
    one = train_and_evaluate(config_of(at, "train.non_finite=skip"), tmp_path / "one")
    called = train_and_evaluate(config_of(at, "train.non_finite=skip", *overrides), tmp_path / "called")
    assert (called.skipped_steps, int(called.state.step)) == (1, 8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *jax.device_get((one.state, called.state)))
    with pytest.raises(TrainingError, match="step 5: the loss is not finite, although every image is"):
        train_and_evaluate(config_of(at, *overrides), tmp_path / "stopped")
    record = read_record(tmp_path / "stopped" / "non_finite" / "step_0000005.npz")
    assert int(record.state_like(stopped[4]).step) == 4
    assert replay(tmp_path / "stopped" / "non_finite" / "step_0000005.npz").is_reproduced


class Kill(Callback):
    """Ends a run after a step of its part with a number of returns, as a crash would."""

    def __init__(self, step, rollbacks):
        self.at = (step, rollbacks)

    def on_start(self, run, state):
        self.rollbacks = run.loop.faults.rollbacks

    def on_step(self, step, metrics):
        if (step, self.rollbacks) == self.at:
            raise KeyboardInterrupt


@pytest.mark.long
def test_a_run_returns_to_its_checkpoint_and_can_be_killed_meanwhile(tmp_path, at):
    """Step 5 fails; then, in another order, step 8, and the run returns to step 6; the third order has no failure."""
    overrides = ["train.non_finite=rollback", "checkpoint.every=2", "log.every=2"]
    whole = train_and_evaluate(config_of(at, *overrides), tmp_path / "whole")
    assert (whole.rollbacks, whole.skipped_steps, int(whole.state.step)) == (2, 0, 8)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [2, 4, 6, 8]
    files = sorted((tmp_path / "whole" / "non_finite").iterdir())
    assert [file.name for file in files] == ["step_0000005.npz", "step_0000008.npz"]
    assert [read_record(file).rollbacks for file in files] == [0, 1]
    assert replay(files[1]).is_reproduced

    parts = tmp_path / "parts"
    message = r"step 8: the loss is .* returned to a checkpoint this many times before: .*non_finite_limit = 1\b"
    with pytest.raises(TrainingError, match=message):
        train_and_evaluate(config_of(at, *overrides, "train.non_finite_limit=1"), parts)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config_of(at, *overrides), parts, callbacks=[Kill(7, rollbacks=2)])
    with Checkpoints(parts / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.counts(checkpoints.latest_step) == {"rollbacks": 1, "skipped_steps": 0}
    resumed = train_and_evaluate(config_of(at, *overrides), parts)
    assert resumed.rollbacks == 2
    states_equal(resumed.state, whole.state)


def test_a_run_without_a_checkpoint_begins_anew_and_a_file_that_cannot_be_written_hides_nothing(tmp_path, monkeypatch):
    starts = []
    callback = Callback()
    callback.on_start = lambda run, state: starts.append((run.loop.faults.rollbacks, int(state.step)))
    monkeypatch.setattr(recovery, "write_record", unittest.mock.Mock(side_effect=OSError("no space left")))
    overrides = ["optimizer.learning_rate=3e38", "optimizer.warmup_steps=0", "train.steps=1"]
    overrides += ["train.non_finite=rollback", "train.non_finite_limit=1"]
    message = r"step 1: the update .* is not finite.* The batch: .*step_0000001.npz cannot be written \(no space left\)"
    with pytest.raises(TrainingError, match=message):
        train_and_evaluate(load_config("configs/shapes.py:tiny", overrides), tmp_path, callbacks=[callback])
    assert starts == [(0, 0), (1, 0)]
    assert not (tmp_path / "non_finite").exists()


@pytest.mark.parametrize("cache", ["host", "device"])
def test_the_batch_of_a_cached_dataset_can_be_read_again(cache, at):
    plain, cached = (build(config_of(at, f"data.cache={name}")).data for name in ("none", cache))
    for returns in (0, 1):
        there, here = (data.after_rollbacks(returns, seed=0).read_batch(4) for data in (plain, cached))
        assert here.keys() == there.keys() == {"image", "label", "index"}
        for name, value in there.items():
            np.testing.assert_array_equal(here[name], value)


@pytest.mark.long
def test_a_replay_names_the_images_that_are_not_finite(stopped, tmp_path):
    """A run would refuse such images when it reads them, but augmentation could make them."""
    record = read_record(stopped[0] / "non_finite" / "step_0000005.npz")
    image = record.batch["image"].astype(np.float32)
    image[[2, 7], 3, 4, 1] = np.nan, np.inf
    batch = {**record.batch, "image": image, "label": record.batch["label"][::-1]}
    path = tmp_path / "other" / "record.npz"
    write_record(path, dataclasses.replace(record, kind="input", batch=batch))
    found = replay(path)
    assert found.is_reproduced and found.found.rows == (2, 7)
    assert found.images == found.augmented == (record.examples[2], record.examples[7])
    assert f"The images: {record.examples[2]}, {record.examples[7]}. The batch: " in str(found)
    assert [file.name for file in path.parent.iterdir()] == ["record.npz"]
    shorter = {name: value[:3] if "head" in name else value for name, value in record.state.items()}
    write_record(path, dataclasses.replace(record, state=shorter))
    with pytest.raises(
        DataError, match=r"params/head/bias is float32\[3\] in the record .*float32\[5\] in the network"
    ):
        replay(path)
    write_record(path, dataclasses.replace(record, batch={**batch, "label": batch["label"][:4]}))
    with pytest.raises(DataError, match=r"label \(4, 32, 32\), 8 examples"):
        replay(path)
    write_record(path, dataclasses.replace(record, batch={**batch, "image": record.batch["image"]}))
    found = replay(path)
    assert (found.found, found.is_reproduced, found.gradient) == (None, False, ())
    assert "here, everything is finite" in str(found)


def test_a_file_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "record.npz"
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"record.npz: cannot be read as the record of a training step"):
            replay(path)
    for about in (b"[]", b'{"format": 2}', b'{"format": 1, "kind": "loss", "num_classes": "many"}'):
        np.savez(path, about=np.frombuffer(about, np.uint8))
        with pytest.raises(DataError, match=r"record.npz: cannot be read as the record of a training step"):
            replay(path)
    with pytest.raises(DataError, match=r"missing.npz: cannot be read as the record of a training step"):
        replay(tmp_path / "missing.npz")


PROGRAM = """
import sys, unittest.mock
import jax

jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
from flaxseg.config.files import load_config
from flaxseg.errors import FlaxsegError
from flaxseg.train import loop

loop.Summaries = unittest.mock.MagicMock()
try:
    loop.train_and_evaluate(load_config("configs/shapes.py:tiny", sys.argv[4:]), sys.argv[3])
except FlaxsegError as error:
    print(error)
"""


@pytest.mark.long
def test_two_processes_return_to_a_checkpoint_and_stop_together(tmp_path, at):
    """Step 5 makes them return to step 4, and step 8 stops them; each parameter is split over both processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    overrides = [*OVERRIDES, at, "mesh.fsdp=2", "checkpoint.every=2", "log.every=2", "data.cache=device"]
    overrides += ["train.non_finite=rollback", "train.non_finite_limit=1"]
    flags = re.sub(r"device_count=\d+", "device_count=2", os.environ["XLA_FLAGS"])
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(index), port, str(tmp_path), *overrides], **pipes)
        for index in range(2)
    ]
    results = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    for output, error, status in results:
        assert status == 0, error
        assert re.search(r"^step 8: the loss is not finite.* this many times before", output, re.MULTILINE), output
    assert "Returning to the last checkpoint, 1 of at most 1 times" in results[0][1]
    data, found = build(config_of(at)).data, []
    for returns, step in enumerate((5, 8)):
        record = read_record(tmp_path / "non_finite" / f"step_{step:07d}.npz")
        for name, value in data.after_rollbacks(returns, seed=0).read_batch(step - 1).items():
            np.testing.assert_array_equal(record.batch[name], value)
        found.append(replay(tmp_path / "non_finite" / f"step_{step:07d}.npz").is_reproduced)
    assert found == [True, True]
