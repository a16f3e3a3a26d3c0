"""Several runs trained together: each working directory is that of the run trained alone."""

import dataclasses
import json
import shutil
import signal
import unittest.mock

import jax
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.deploy.predictor import load
from flaxseg.errors import CheckpointError, ConfigError
from flaxseg.main import main
from flaxseg.report import tensorboard
from flaxseg.train import fit, loop, members
from flaxseg.train.callbacks import Callback
from flaxseg.train.compile import compile_run
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.members import FailedRuns, train_together
from flaxseg.train.profiler import Profiler
from flaxseg.train.supervision import Supervision
from flaxseg.train.together import Batched

OVERRIDES = [
    "augment.flip=0.5",
    "checkpoint.every=2",
    "eval.every=6",
    "data.cache=host",
    "log.images=1",
    "log.writer=tensorboard",
    "mesh.data=1",
    "train.batch_size=8",
]
SEEDS = (0, 1, 2)
NAMES = [f"seed-{seed}" for seed in SEEDS]


KEYS = [*OVERRIDES, f"train.seeds={SEEDS}"]


def config_of(*overrides):
    return load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides])


def of_seeds(*overrides):
    return load_config("configs/shapes.py:tiny", [*KEYS, *overrides])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compiles the network once, because its program does not depend on the seed, and draws no figures."""
    compiled, figure = [], np.zeros((4, 4, 3), np.uint8)

    def compile_once(run, state):
        if not compiled:
            compiled.append(compile_run(run, state))
        return compiled[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_run", compile_once)
        for name in ("confusion_figure", "prediction_panel"):
            patch.setattr(tensorboard, name, lambda *_: figure)
        yield


class Examples(Callback):
    """Records the examples and the images of each step."""

    def __init__(self, patch):
        self.batches = []
        inputs = fit.Member.inputs

        def record(member):
            found = inputs(member)
            self.batches.append((member.run.loop.seed, member.step, np.asarray(found.batch["index"]).tolist()))
            return found

        patch.setattr(fit.Member, "inputs", record)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the folder, the results and the examples of three runs, alone and together."""
    found = []
    for name in ("alone", "together"):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            examples = Examples(patch)
            if name == "together":
                results = train_together(of_seeds(), folder)
            else:
                results = {name: train_and_evaluate(config_of(f"seed={name[5:]}"), folder / name) for name in NAMES}
        found.append((folder, results, examples.batches))
    return found


def arrays(state):
    return jax.tree.leaves(jax.device_get(state))


def assert_equal(found, expected):
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def rows(folder):
    """Returns the rows of a run's metrics, without what depends on the time."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "wall_time" and "per_second" not in k} for row in found]


def files(folder):
    """Returns the files of a run, without what Orbax and TensorBoard name by the time or a random number."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if path.parts[0] != "checkpoints" and "tfevents" not in path.name)


def test_each_run_is_that_of_its_seed_alone(runs):
    (_, expected, batches), (_, found, same_batches) = runs
    assert sorted(same_batches) == batches and len({str(examples) for _, step, examples in batches if step == 0}) == 3
    assert list(found) == NAMES
    for name in NAMES:
        assert_equal(found[name].state, expected[name].state)
        assert found[name].scores.compute() == expected[name].scores.compute()
        assert found[name].best_step == expected[name].best_step
    assert len({float(arrays(each.state.params)[0].sum()) for each in found.values()}) == 3


def test_each_directory_is_that_of_its_seed_alone(runs):
    (alone, _, _), (together, _, _) = runs
    assert sorted(path.name for path in together.iterdir()) == NAMES
    for seed, name in enumerate(NAMES):
        ours, theirs = together / name, alone / name
        assert files(ours) == files(theirs) and "images/0000006_predictions.png" in files(ours)
        assert rows(ours) == rows(theirs)
        assert (ours / "config.json").read_text() == (theirs / "config.json").read_text()
        assert json.loads((ours / "config.json").read_text())["seed"] == seed
        assert len(list(ours.glob("*tfevents*"))) == 1
        steps = [sorted(path.name for path in (each / "checkpoints").iterdir()) for each in (ours, theirs)]
        assert steps[0] == steps[1] and "6" in steps[0]


def test_a_run_can_be_loaded_and_resumed_alone(runs, tmp_path):
    _, (together, found, _) = runs
    shutil.copytree(together / "seed-1", tmp_path / "run")
    assert load(tmp_path / "run").classes[0] == "background"
    again = train_and_evaluate(config_of("seed=1"), tmp_path / "run")
    assert_equal(again.state, found["seed-1"].state)
    with pytest.raises(CheckpointError, match="contains a single run; give another --workdir for several runs"):
        train_together(of_seeds(), tmp_path / "run")


@pytest.mark.parametrize("stopped_by", [0, signal.SIGTERM])
def test_the_command_prints_each_run_and_the_spread(runs, stopped_by, capsys):
    _, (folder, results, _) = runs
    results = {name: dataclasses.replace(each, stopped_by=stopped_by) for name, each in results.items()}
    with unittest.mock.patch.object(members, "train_together", return_value=results) as trained:
        status = main(["--config=shapes:tiny", f"--config.train.seeds={SEEDS}", f"--workdir={folder}"])
    assert status == (128 + stopped_by if stopped_by else 0)
    assert trained.call_args[0][0].train.seeds == SEEDS
    printed = capsys.readouterr()
    lines = printed.out.strip().splitlines()
    miou = [each.scores.compute()["miou"] for each in results.values()]
    assert lines[0].split() == ["miou", "mean_dice", "pixel_accuracy"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        [name, f"{value:.4f}"] for name, value in zip(NAMES, miou, strict=True)
    ]
    assert lines[4].split()[1] == f"{sum(miou) / 3:.4f}" and lines[5].startswith("standard deviation (n = 3)")
    assert lines[7] == f"{folder / 'seed-0'} (step 6, best: step 6, miou {miou[0]:.4f})"
    assert printed.err.count("stopped at step 6; repeat the command to resume") == (3 if stopped_by else 0)


class StopsAfterThree(Supervision):
    """Stops the runs after their third step, as SIGTERM would."""

    @property
    def signal(self):
        return signal.SIGTERM

    def should_stop(self, step):
        return step >= 3


def test_stopped_runs_resume_bit_for_bit(runs, tmp_path):
    """A run whose latest checkpoint was lost catches up first."""
    with unittest.mock.patch.object(members, "Supervision", StopsAfterThree):
        stopped = train_together(of_seeds(), tmp_path)
    assert [(each.stopped_by, int(each.state.step)) for each in stopped.values()] == [(signal.SIGTERM, 3)] * 3
    assert all((tmp_path / f"seed-{seed}" / "checkpoints" / "3").is_dir() for seed in SEEDS)
    shutil.rmtree(tmp_path / "seed-1" / "checkpoints" / "3")
    with pytest.MonkeyPatch.context() as patch:
        examples = Examples(patch)
        resumed = train_together(of_seeds(), tmp_path)
    assert [(seed, step) for seed, step, _ in examples.batches] == [
        (1, 2), *((seed, step) for step in (3, 4, 5) for seed in SEEDS),
    ]  # fmt: skip
    for name in NAMES:
        assert_equal(resumed[name].state, runs[1][1][name].state)
        logged = [row["step"] for row in rows(tmp_path / name)]
        assert logged == ([2, 4, 6, 6] if name == "seed-1" else [2, 3, 4, 6, 6])


@pytest.mark.long
def test_runs_in_one_program_resume_bit_for_bit(runs, tmp_path):
    """As on accelerators: each run is as if alone, up to rounding, and interruptions change nothing."""
    with unittest.mock.patch.object(members, "step_together", lambda members, _: Batched(members)):
        whole = train_together(of_seeds(), tmp_path / "whole")
        with unittest.mock.patch.object(members, "Supervision", StopsAfterThree):
            train_together(of_seeds(), tmp_path / "parts")
        shutil.rmtree(tmp_path / "parts" / "seed-1" / "checkpoints" / "3")
        resumed = train_together(of_seeds(), tmp_path / "parts")
    for name in NAMES:
        assert_equal(resumed[name].state, whole[name].state)
        for a, b in zip(arrays(whole[name].state), arrays(runs[0][1][name].state), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        scores = [each[name].scores.compute()["miou"] for each in (whole, runs[0][1])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.long
def test_a_run_that_stops_early_leaves_the_others_as_they_are(runs, tmp_path):
    metrics = runs[1][1]["seed-0"].scores

    def scored(run, compiled, state, **options):
        """Returns an evaluation whose score falls for seed 1, and rises for the others."""
        sign = -1 if run.loop.seed == 1 else 1
        return Evaluation(metrics, {**metrics.compute(), "miou": 0.5 + sign * 0.01 * int(state.step)})

    with unittest.mock.patch.object(fit, "evaluate", scored):
        results = train_together(of_seeds("eval.every=2", "train.early_stop=2"), tmp_path)
        stopped = results["seed-1"]
        assert (int(stopped.state.step), stopped.best_step, stopped.stopped_early) == (4, 2, True)
        for name in ("seed-0", "seed-2"):
            assert_equal(results[name].state, runs[1][1][name].state)
            assert (results[name].best_step, results[name].stopped_early) == (6, False)
        again = train_together(of_seeds("eval.every=2", "train.early_stop=2"), tmp_path)
    assert int(again["seed-1"].state.step) == 4
    assert_equal(again["seed-1"].state, stopped.state)


def test_a_run_with_a_step_that_is_not_finite_ends_alone(runs, tmp_path, capfd):
    receive = fit.Member.receive

    def spoiled(member, call):
        if member.run.loop.seed == 1 and member.step == 3:
            check = call.metrics.check.replace(code=jax.numpy.int32(3))
            call = call._replace(metrics=call.metrics.replace(check=check))
        receive(member, call)

    with (
        unittest.mock.patch.object(fit.Member, "receive", spoiled),
        unittest.mock.patch.object(loop, "Summaries", unittest.mock.MagicMock()),
        unittest.mock.patch.object(Profiler, "on_error") as told,
    ):
        status = main(["--config=shapes:tiny", *(f"--config.{key}" for key in KEYS), f"--workdir={tmp_path}"])
        told.assert_called_once()  # So that a trace ends with the run.
        printed = capfd.readouterr()
        assert status == 1 and "error: seed-1: step 4: the gradient is not finite" in printed.err
        assert printed.err.index("seed-1 has ended: step 4: the gradient") < printed.err.index("error: seed-1")
        assert [line.split()[0] for line in printed.out.strip().splitlines()[1:3]] == ["seed-0", "seed-2"]
        with pytest.raises(FailedRuns) as raised:
            train_together(of_seeds(), tmp_path)
    assert list(raised.value.errors) == ["seed-1"] and list(raised.value.results) == ["seed-0", "seed-2"]
    for name, result in raised.value.results.items():
        assert_equal(result.state, runs[1][1][name].state)
    assert [path.name for path in (tmp_path / "seed-1" / "non_finite").iterdir()] == ["step_0000004.npz"]
    assert sorted(path.name for path in (tmp_path / "seed-1" / "checkpoints").iterdir() if path.is_dir()) == ["2"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.seeds=(0,0)"], "config.train.seeds = (0, 0): must be a tuple of different integers of at least 0"),
        (["train.seeds=(-1,)"], "config.train.seeds = (-1,): must be a tuple of different integers of at least 0"),
        (["train.seeds=3"], "config.train.seeds = 3: must be a tuple of different integers of at least 0"),
        (["mesh.fsdp=2"], "config.mesh.fsdp = 2: the runs of train.seeds = (0, 1) are trained together, with"),
        (["mesh.spatial=2"], "config.mesh.spatial = 2: the runs of train.seeds = (0, 1) are trained together, with"),
        (
            ["train.non_finite=rollback"],
            "config.train.non_finite = 'rollback': the runs of train.seeds = (0, 1) are trained",
        ),
        (
            ["data.cache=features"],
            "config.data.cache = 'features': the runs of train.seeds = (0, 1) are trained together",
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ConfigError) as raised:
        validate(load_config("configs/shapes.py:tiny", ["train.seeds=(0,1)", *overrides]))
    assert message in str(raised.value)


def test_several_processes_and_functions_for_one_run_are_refused(tmp_path):
    with (
        unittest.mock.patch.object(jax, "process_count", return_value=2),
        pytest.raises(ConfigError, match="these runs are trained together in one process, and there are 2; use"),
    ):
        train_together(of_seeds(), tmp_path / "run")
    with pytest.raises(ConfigError, match="this function trains one run; use flaxseg.train.members.train_together"):
        train_and_evaluate(of_seeds(), tmp_path / "run")
    with pytest.raises(ConfigError, match="there is nothing to train"):
        train_together(config_of(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
