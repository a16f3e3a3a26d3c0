"""A run with checkpoint.keep = 0 saves no checkpoint and says so; its scores, logs and early stopping are as ever."""

import contextlib
import io
import json
import shutil
import types

import pytest
from one_compilation import compile_once

from flaxseg.config.files import load_config
from flaxseg.deploy.predictor import load
from flaxseg.diagnosis.run_checkpoints import check_checkpoints
from flaxseg.errors import CheckpointError, WeightsError
from flaxseg.evaluate import main as evaluate
from flaxseg.main import main
from flaxseg.train import fit
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.preemption import StopSignals

KEYS = ["checkpoint.keep=0", "log.writer=none", "log.images=0", "log.confusion_matrix=False", "mesh.data=1"]
SCORES = {2: 0.5, 4: 0.25, 6: 0.75}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        yield


@pytest.fixture
def known_scores(monkeypatch):
    """Replaces the mean IoU of evaluations by SCORES."""

    evaluate = fit.evaluate

    def evaluate_with_known_score(run, compiled, state, **options):
        evaluation = evaluate(run, compiled, state, **options)
        evaluation.scores["miou"] = SCORES[int(state.step)]
        return evaluation

    monkeypatch.setattr(fit, "evaluate", evaluate_with_known_score)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Returns the directory, status and output of a run of the command that was stopped by a signal."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    keys = [*KEYS, "train.callbacks=('own_callbacks:Stopper',)"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(["--config=shapes:tiny", f"--workdir={workdir}", *(f"--config.{key}" for key in keys)])
    return workdir, status, out.getvalue(), err.getvalue()


def test_the_command_says_that_the_run_cannot_be_resumed(stopped):
    workdir, status, out, err = stopped
    assert status == 128 + 15
    assert "no checkpoint is saved (config.checkpoint.keep = 0): this run cannot be resumed" in err
    assert "stopping after this step, without a checkpoint; a second signal stops at once" in err
    assert err.endswith("stopped at step 3; repeat the command to begin anew\n")
    assert "checkpoints   none was saved (best: step 3, miou " in out
    assert "tensorboard" not in out
    assert [json.loads(row)["step"] for row in (workdir / "metrics.jsonl").read_text().splitlines()] == [2, 3, 3]
    assert not (workdir / "checkpoints").exists()


def test_its_network_cannot_be_used(stopped, capsys):
    workdir = stopped[0]
    with pytest.raises(WeightsError, match=r"run: its run saved no checkpoint \(config\.checkpoint\.keep = 0\), so"):
        load(workdir)
    assert evaluate([str(workdir)]) == 1
    error = capsys.readouterr().err
    assert "train again with config.checkpoint.keep of at least 1 and another --workdir" in error
    assert error.count("\n") == 1
    (note, *_) = check_checkpoints(workdir, is_in_use=False)
    assert note.text == "this run saves no checkpoints (config.checkpoint.keep = 0), so it cannot be resumed"


def test_the_best_score_counts_and_a_repeated_run_begins_anew(known_scores, tmp_path):
    config = load_config("shapes:tiny", [*KEYS, "eval.every=2"])
    result = train_and_evaluate(config, tmp_path)
    assert (result.best_step, int(result.state.step), result.stopped_early) == (6, 6, False)
    config.train.early_stop = 2
    result = train_and_evaluate(config, tmp_path)
    assert (result.best_step, int(result.state.step), result.stopped_early) == (2, 4, True)
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row.get("eval/miou")) for row in rows] == [(2, None), (2, 0.5), (4, None), (4, 0.25)]
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_that_has_checkpoints_keeps_them(stopped, tmp_path):
    workdir = shutil.copytree(stopped[0], tmp_path / "run")
    (workdir / "checkpoints" / "3").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(CheckpointError, match=r"checkpoints: has checkpoints of an earlier part of this run, but"):
        train_and_evaluate(load_config(str(workdir)), workdir)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize(("saves", "said"), [(True, " and saving a checkpoint"), (False, ", without a checkpoint")])
def test_a_signal_says_whether_a_checkpoint_is_saved(capsys, saves, said):
    announced = []
    signals = StopSignals(types.SimpleNamespace(has_begun=True, announce=announced.append), saves=saves)
    signals._receive(15)
    assert capsys.readouterr().err == f"\nstopping after this step{said}; a second signal stops at once\n"
    assert announced == [15]
