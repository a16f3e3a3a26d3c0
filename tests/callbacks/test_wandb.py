"""The callback of Weights & Biases: what a run sends, with a module that records it and with wandb's offline mode."""

import json
import os
import signal
import struct
import subprocess
import sys

import psutil
import pytest
from tracking_services import FakeWandb, config_of, result, take_steps

from flaxseg.callbacks.wandb import wandb_callback
from flaxseg.errors import ArgumentError, ConfigError
from flaxseg.train.configured_callbacks import configured_callbacks

IOU = {"eval/iou/sky": 0.6, "eval/iou/a:b (c)": 0.6}


@pytest.fixture
def wandb(monkeypatch):
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def callback_of(workdir, **options):
    return wandb_callback(workdir=workdir, config=config_of("wandb"), **options)


def test_a_run_sends_its_log(wandb, tmp_path):
    callback = callback_of(tmp_path, project="pets", group="g")
    take_steps(callback, tmp_path, (1, 2))
    callback.on_end(result(2))
    (run,) = wandb.runs
    assert run.arguments.pop("settings") == {"console": "off", "finish_timeout": 20.0}
    assert run.arguments == {
        "id": json.loads((tmp_path / "wandb.json").read_text())["run"], "project": "pets", "entity": None, "group": "g",
        "name": tmp_path.name, "mode": None, "dir": str(tmp_path), "resume": "allow", "reinit": "create_new",
    }  # fmt: skip
    assert run.config.values["train"]["callbacks"] == ("wandb",)
    assert list(run.history) == [1, 2] and run.history[1] == {"train/loss": 1.0}
    second = dict(run.history[2])
    assert second.pop("images/predictions") == ("image", "0000002_predictions.png")
    assert second.pop("train/loss") == 0.5 and second.pop("eval/miou") == pytest.approx(0.6)
    assert {name: second[name] for name in IOU} == pytest.approx(IOU) and "eval/iou/never" not in second
    assert run.summary["final/miou"] == pytest.approx(0.6) and run.exit_code == 0


def test_a_resumed_run_continues_the_same_run_and_sends_no_step_twice(wandb, tmp_path):
    first = callback_of(tmp_path)
    take_steps(first, tmp_path, (1, 2, 3))
    first.on_error(RuntimeError())
    second = callback_of(tmp_path)
    take_steps(second, tmp_path, (2, 3, 4), start=1)
    second.on_end(result(4, stopped_by=15))
    before, after = wandb.runs
    assert after.arguments["id"] == before.arguments["id"]
    assert (sorted(before.history), sorted(after.history)) == ([1, 2, 3], [4])
    assert (before.exit_code, after.exit_code) == (1, 1) and not after.summary
    # The next beginning has sent everything already, but for the final scores.
    third = callback_of(tmp_path)
    take_steps(third, tmp_path, (), start=4)
    third.on_end(result(4))
    assert wandb.runs[2].summary and not wandb.runs[2].history


def test_a_return_to_a_checkpoint_opens_no_second_run(wandb, tmp_path):
    callback = callback_of(tmp_path)
    take_steps(callback, tmp_path, (1, 2))
    take_steps(callback, tmp_path, (2, 3), start=1)
    callback.on_end(result(3))
    assert [sorted(run.history) for run in wandb.runs] == [[1, 2, 3]]


def test_only_the_first_process_sends(wandb, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    callback = callback_of(tmp_path)
    take_steps(callback, tmp_path, (1, 2))
    callback.on_end(result(2))
    callback.on_error(RuntimeError())
    assert not wandb.runs and [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_service_that_fails_and_a_damaged_record_only_warn(wandb, tmp_path, capsys):
    (tmp_path / "wandb.json").write_text("{}")
    callback = callback_of(tmp_path)
    take_steps(callback, tmp_path, (1,))
    callback.on_end(result(1))
    assert not wandb.runs and (tmp_path / "wandb.json").read_text() == "{}"
    first, second = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/wandb.json cannot be read; delete it to begin a new run there" in first
    assert second == "wandb: 5 entries of the log could not be sent"


def test_a_missing_package_and_a_missing_login_are_errors_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(login=False))
    config = config_of("wandb")
    with pytest.raises(ConfigError, match=r"^config\.train\.callback_options\.wandb\.mode = '': there is no login .*"):
        configured_callbacks(config, tmp_path)
    config.train.callback_options = {"wandb": {"mode": "offline"}}
    assert len(configured_callbacks(config, tmp_path)) == 1
    with pytest.raises(ArgumentError, match=r"^mode = 'ofline': must be one of .*; did you mean 'offline'\?$"):
        callback_of(tmp_path, mode="ofline")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"^config\.train\.callbacks = 'wandb': needs wandb .*'flaxseg\[wandb\]'$"):
        configured_callbacks(config, tmp_path)
    assert not list(tmp_path.iterdir())


def offline_records(data):
    """Yields the records of an offline run's file: parts of records in blocks of 32 KiB, as LevelDB writes its log."""
    position, record = 7, b""
    while position < len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768  # Too little room for a header.
            continue
        size, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        record += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # A whole record, or its last part.
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_stores_each_part_of_a_run_under_one_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setattr("flaxseg.callbacks.tracking.STOPPED_PATIENCE_SECONDS", 300)
    for steps, end in (((1, 2, 3), 3), ((2, 3, 4), 4)):
        callback = callback_of(tmp_path, mode="offline")
        take_steps(callback, tmp_path, steps, start=steps[0] - 1)
        callback.on_end(result(end, stopped_by=15 if end == 3 else 0))
    rows, ids, summary = [], set(), {}
    for file in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in map(Record.FromString, offline_records(file.read_bytes())):
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                rows.append((int(items["_step"]), json.loads(items.get("train/loss", "null"))))
            elif record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
            elif record.WhichOneof("record_type") == "summary":
                summary |= {item.key: item.value_json for item in record.summary.update}
    assert rows == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25)]
    assert ids == {json.loads((tmp_path / "wandb.json").read_text())["run"]}
    assert float(summary["final/miou"]) == pytest.approx(0.6)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/images/*.png"))) == 2


@pytest.mark.long
def test_a_signal_stops_a_run_with_wandb_and_all_its_processes(tmp_path):
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    keys = [
        "train.callbacks=('wandb','own_callbacks:Stopper')",
        "train.callback_options.wandb.mode=offline",
        "log.writer=none",
        "mesh.data=1",
    ]
    command = [sys.executable, "-m", "flaxseg.main", "--config=shapes:tiny", f"--workdir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.Popen(
        [*command, *(f"--config.{key}" for key in keys)], env=environment, stderr=subprocess.PIPE, text=True
    )
    _, error = run.communicate(timeout=600)
    assert run.returncode == 128 + signal.SIGTERM, error
    assert "stopped at step 3; repeat the command to resume" in error
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    assert not (tmp_path / ".lock").exists()
    left = [each.cmdline() for each in psutil.process_iter() if str(run.pid) in each.cmdline()]
    assert not left
