"""The callback of MLflow: what a run sends, with a module that records it and with a local store of MLflow."""

import sys
import time

import pytest
from tracking_services import FakeMlflow, config_of, result, take_steps

from flaxseg.callbacks.mlflow import entity_name, mlflow_callback
from flaxseg.callbacks.tracking import run_name
from flaxseg.errors import ConfigError
from flaxseg.train.configured_callbacks import configured_callbacks


@pytest.fixture
def mlflow(monkeypatch):
    module = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def callback_of(workdir, **options):
    return mlflow_callback(workdir=workdir, config=config_of("mlflow"), **options)


def losses(run):
    return [(step, value) for key, value, step in run.metrics if key == "train/loss"]


def test_a_resumed_run_continues_the_same_run_and_sends_no_step_twice(mlflow, tmp_path):
    first = callback_of(tmp_path, tracking_uri="http://tracking", name="first")
    take_steps(first, tmp_path, (1, 2, 3))
    first.on_end(result(3, stopped_by=15))
    server = mlflow.servers["http://tracking"]
    (run,) = server.runs.values()
    assert (run.name, run.experiment, server.experiments) == ("first", "experiment 0", {"flaxseg": "experiment 0"})
    assert run.status == "KILLED" and losses(run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert not [key for key, _, _ in run.metrics if key.startswith("final/")]
    second = callback_of(tmp_path, tracking_uri="http://tracking")
    take_steps(second, tmp_path, (2, 3, 4), start=1)
    second.on_end(result(4))
    assert list(server.runs.values()) == [run] and run.status == "FINISHED"
    assert losses(run) == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert [step for key, _, step in run.metrics if key == "eval/miou"] == [2, 4]
    assert run.images == [("images/predictions", step, (5, 3)) for step in (2, 4)]
    assert ("final/miou", pytest.approx(0.6), 4) in run.metrics
    assert run.params["train.batch_size"] == "8" and run.files["config.json"]["train"]["batch_size"] == 8


def test_a_run_whose_server_is_away_for_a_while_loses_nothing(mlflow, tmp_path, capsys):
    mlflow.is_away = True
    callback = callback_of(tmp_path)
    take_steps(callback, tmp_path, (1, 2))
    error = ""
    for _ in range(1000):  # The thread warns soon.
        error += capsys.readouterr().err
        if error:
            break
        time.sleep(0.01)
    assert error.startswith("mlflow: the log cannot be sent (no route to host); training continues")
    mlflow.is_away = False
    callback.on_error(RuntimeError())
    (run,) = mlflow.servers[None].runs.values()
    assert losses(run) == [(1, 1.0), (2, 0.5)] and len(run.images) == 1 and run.status == "FAILED"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eval/iou/sky", "eval/iou/sky"),
        ("eval/iou/дерево", "eval/iou/дерево"),
        ("eval/iou/a:b (c)", "eval/iou/a_b _c__04f00210"),
        ("eval/iou/../x", "eval/iou/__/x_44ce3a10"),
        ("eval//x", "eval/_/x_33e88418"),
    ],
)
def test_names_are_those_that_mlflow_accepts(name, expected):
    assert entity_name(name) == expected


def test_different_names_stay_different():
    names = ["x" * 300, "x" * 301, "a:b", "a_b", "a?b"]
    found = {entity_name(name) for name in names}
    assert len(found) == 5 and max(map(len, found)) == 250


def test_the_name_of_a_run_is_that_of_its_directory(tmp_path):
    assert run_name(tmp_path / "pets") == "pets"
    assert run_name(tmp_path / "pets" / "seed-12") == "pets/seed-12"
    for name in ("seed-0_learning_rate-0.003", "seed-0_loss-dice-0.5", "seed-1_learning_rate-0.1_loss-dice-1"):
        assert run_name(tmp_path / "pets" / name) == f"pets/{name}"


def test_a_missing_package_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"^config\.train\.callbacks = 'mlflow': needs mlflow .*'flaxseg\[mlflow\]'$"):
        configured_callbacks(config_of("mlflow"), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_local_store_of_mlflow_has_each_step_once(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flaxseg.callbacks.tracking.STOPPED_PATIENCE_SECONDS", 300)  # To create a database.
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for steps, end in (((1, 2, 3), 3), ((2, 3, 4), 4)):
        callback = callback_of(tmp_path, tracking_uri=uri)
        take_steps(callback, tmp_path, steps, start=steps[0] - 1)
        callback.on_end(result(end, stopped_by=15 if end == 3 else 0))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("flaxseg")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert (run.info.status, run.info.run_name) == ("FINISHED", tmp_path.name)
    assert run.data.metrics["final/miou"] == pytest.approx(0.6)
    assert run.data.metrics[entity_name("eval/iou/a:b (c)")] == pytest.approx(0.6)
    assert run.data.params["train.callbacks"] == "('mlflow',)"
    images = [each.path for each in client.list_artifacts(run.info.run_id, "images") if each.path.endswith(".png")]
    assert [path.split("+")[2] for path in sorted(images)] == ["2", "4"]
