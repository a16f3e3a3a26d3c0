"""The callbacks that a configuration names, in a run that fails and is resumed, and in several that train together."""

import csv
import json
import sys

import numpy as np
import own_callbacks
import pytest
from one_compilation import compile_once
from tracking_services import FakeMlflow, FakeWandb

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError
from flaxseg.report import tensorboard
from flaxseg.train.configured_callbacks import configured_callbacks
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.members import train_together

NAMES = ("csv", "wandb", "mlflow", "own_callbacks:Recorder")


def config_of(*overrides):
    keys = ["log.writer=none", "log.images=1", "mesh.data=1", f"train.callbacks={NAMES}", *overrides]
    return load_config("configs/shapes.py:tiny", keys)


@pytest.fixture(scope="module", autouse=True)
def services():
    """Replaces wandb and mlflow, compiles the network once, and draws no figures."""
    figure = np.zeros((4, 4, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        for name in ("confusion_figure", "prediction_panel"):
            patch.setattr(tensorboard, name, lambda *_: figure)
        found = FakeWandb(), FakeMlflow()
        for module in found:
            patch.setitem(sys.modules, module.__name__, module)
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directory of a run of six steps, and its recorder."""
    workdir = tmp_path_factory.mktemp("whole")
    train_and_evaluate(config_of(), workdir)
    return workdir, own_callbacks.made[-1]


def rows(workdir):
    """Returns the rows of metrics.csv without its empty columns, times and speeds."""
    with (workdir / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v and k != "wall_time" and "per_second" not in k} for row in found]


def test_the_table_has_the_numbers_of_the_json_lines(whole):
    expected = [json.loads(line) for line in (whole[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in expected] == [2, 3, 3, 4, 6, 6]
    found = [{name: float(value) for name, value in row.items()} for row in rows(whole[0])]
    assert found == [{k: row[k] for k in row if k != "wall_time" and "per_second" not in k} for row in expected]


def test_a_callback_of_ones_own_gets_the_directory_and_the_configuration(whole):
    workdir, recorder = whole
    assert recorder.workdir == workdir and recorder.seed == 0
    assert [name for name, _ in recorder.events] == ["start", "evaluation", "evaluation", "end"]


def test_without_a_writer_there_are_no_event_files_but_figures(whole):
    assert not list(whole[0].glob("events.*"))
    names = {path.name for path in (whole[0] / "images").iterdir()}
    assert names >= {f"000000{step}_{name}.png" for step in (3, 6) for name in ("confusion_matrix", "predictions")}


def test_a_run_that_fails_in_a_callback_resumes_with_every_row_once(whole, services, tmp_path):
    wandb, mlflow = services
    config = config_of("train.callback_options.Recorder.fail_at=6")
    with pytest.raises(RuntimeError, match="the callback fails") as raised:
        train_and_evaluate(config, tmp_path)
    # Before the checkpoint of step 6, so that the run repeats the steps after 3.
    recorder = own_callbacks.made[-1]
    assert recorder.events == [("start", 0), ("evaluation", 3), ("evaluation", 6), ("error", "the callback fails")]
    assert raised.value.__notes__ == ["Recorder.on_error raised OSError: so does this"]
    assert [row["step"] for row in rows(tmp_path)] == ["2", "3", "3", "4", "6", "6"]
    # Callbacks and their options may change.
    train_and_evaluate(config_of(), tmp_path)
    assert rows(tmp_path) == rows(whole[0])
    assert own_callbacks.made[-1].events[0] == ("start", 3)
    (first, second), run = wandb.runs[-2:], [*mlflow.servers[None].runs.values()][-1]
    assert first.arguments["id"] == second.arguments["id"] and (first.exit_code, second.exit_code) == (1, 0)
    assert sorted(first.history) == [2, 3, 4, 6] and not second.history and "final/miou" in second.summary
    assert [step for key, _, step in run.metrics if key == "train/loss"] == [2, 3, 4, 6]
    sent = [(key, step) for key, step, _ in run.images]
    assert len(set(sent)) == len(sent)
    assert set(sent) >= {(f"images/{name}", step) for step in (3, 6) for name in ("confusion_matrix", "predictions")}
    assert run.status == "FINISHED"


def test_each_seed_has_callbacks_of_its_own(services, tmp_path):
    before = len(own_callbacks.made)
    given = []
    config = config_of("train.seeds=(3, 5)", "log.images=0", "log.confusion_matrix=False", "checkpoint.keep=0")
    results = train_together(config, tmp_path / "pets", callbacks=lambda name: given.append(name) or [])
    recorders = own_callbacks.made[before:]
    assert [(each.seed, each.workdir.name) for each in recorders] == [(3, "seed-3"), (5, "seed-5")]
    assert [each.events[-1] for each in recorders] == [("end", result.best_step) for result in results.values()]
    assert given == ["seed-3", "seed-5"]
    assert [run.arguments["name"] for run in services[0].runs[-2:]] == ["pets/seed-3", "pets/seed-5"]
    first, second = (rows(tmp_path / "pets" / f"seed-{seed}") for seed in (3, 5))
    assert [row["step"] for row in first] == [row["step"] for row in second] and first != second
    # Every display and the checkpoints are off.
    assert sorted(path.name for path in (tmp_path / "pets" / "seed-3").iterdir()) == [
        "config.json", "data.json", "images", "metrics.csv", "metrics.jsonl", "mlflow.json", "model.json",
        "samples.npz", "wandb.json",
    ]  # fmt: skip
    names = [path.name for path in (tmp_path / "pets" / "seed-3" / "images").iterdir()]
    assert not [name for name in names if name.endswith(("confusion_matrix.png", "predictions.png"))]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("text", "must return a Callback of flaxseg.train.callbacks, but returns 'text'; name a subclass of it"),
        ("needs_a_package", "No module named 'no_such_package'"),
    ],
)
def test_what_is_no_callback_is_an_error_before_anything_is_written(tmp_path, name, problem):
    config = config_of(f"train.callbacks=('own_callbacks:{name}',)")
    with pytest.raises(ConfigError) as raised:
        train_and_evaluate(config, tmp_path / "new")
    assert str(raised.value).startswith(f"config.train.callbacks = 'own_callbacks:{name}': {problem}")
    assert not (tmp_path / "new").exists()


def test_callbacks_keep_their_order(tmp_path):
    config = config_of("train.callbacks=('own_callbacks:plain','csv')")
    assert [type(each).__name__ for each in configured_callbacks(config, tmp_path)] == ["Callback", "CsvWriter"]
