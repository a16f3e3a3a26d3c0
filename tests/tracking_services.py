"""Modules that stand in for wandb and mlflow and record what they are sent, and events of a run without training."""

import copy
import types
from collections import defaultdict

import numpy as np
from PIL import Image

from flaxseg.config.schema import default_config
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import ConfusionMatrix

CLASSES = ("sky", "a:b (c)", "never")


class FakeWandb(types.ModuleType):
    """Records each run that is begun or resumed: its arguments, history by step, summary, configuration and status."""

    def __init__(self, *, login=True):
        super().__init__("wandb")
        self.runs = []
        self.login = lambda *, prompt, verify: login and not prompt and not verify
        self.setup = lambda: types.SimpleNamespace(settings=types.SimpleNamespace(mode="online"))
        self.Settings = dict
        self.Image = lambda path: ("image", path.rpartition("/")[2])

    def init(self, **arguments):
        history, summary, config = defaultdict(dict), {}, {}
        run = types.SimpleNamespace(arguments=arguments, history=history, summary=summary, exit_code=None)
        run.log = lambda data, *, step: history[step].update(data)
        run.config = types.SimpleNamespace(values=config, update=lambda new, *, allow_val_change: config.update(new))
        run.finish = lambda *, exit_code: setattr(run, "exit_code", exit_code)
        self.runs.append(run)
        return run


class FakeMlflow(types.ModuleType):
    """Records the runs on each server by their ids, with every value in the order in which it was sent."""

    def __init__(self):
        super().__init__("mlflow")
        self.servers = defaultdict(lambda: types.SimpleNamespace(experiments={}, runs={}))
        self.is_away = False
        self.entities = types.SimpleNamespace(
            Param=lambda key, value: (key, value),
            Metric=lambda key, value, timestamp, step: (key, value, step),
        )
        self.MlflowClient = lambda tracking_uri: _Client(self, self.servers[tracking_uri])


class _Client:
    def __init__(self, module, server):
        self._module, self._server = module, server

    def __getattribute__(self, name):
        if not name.startswith("_") and self._module.is_away:
            raise ConnectionError("no route to host")
        return super().__getattribute__(name)

    def get_experiment_by_name(self, name):
        found = self._server.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self._server.experiments[name] = f"experiment {len(self._server.experiments)}"
        return self._server.experiments[name]

    def create_run(self, experiment_id, *, run_name):
        run_id = f"run {len(self._server.runs)}"
        self._server.runs[run_id] = types.SimpleNamespace(
            name=run_name, experiment=experiment_id, params={}, metrics=[], images=[], files={}, status="RUNNING"
        )
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def get_run(self, run_id):
        return types.SimpleNamespace(data=self._server.runs[run_id])

    def update_run(self, run_id, *, status):
        self._server.runs[run_id].status = status

    def log_batch(self, run_id, *, metrics=(), params=()):
        run = self._server.runs[run_id]
        for key, value in params:
            assert key not in run.params, "MLflow's parameters cannot change"
            run.params[key] = value
        run.metrics += metrics

    def log_dict(self, run_id, content, name):
        self._server.runs[run_id].files[name] = copy.deepcopy(content)

    def log_image(self, run_id, image, *, key, step):
        self._server.runs[run_id].images.append((key, step, image.size))

    def set_terminated(self, run_id, status):
        self._server.runs[run_id].status = status


def config_of(*callbacks):
    config = default_config()
    config.train.callbacks = callbacks
    return config


RUN = types.SimpleNamespace(data=types.SimpleNamespace(train=types.SimpleNamespace(class_names=CLASSES)))


def evaluation():
    """Returns an evaluation with two of three classes right and wrong by half, and one that never occurs."""
    metrics = EvalMetrics(ConfusionMatrix(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]])))
    return types.SimpleNamespace(metrics=metrics, scores=metrics.compute(CLASSES))


def state(step):
    return types.SimpleNamespace(step=np.int32(step))


def result(step, *, stopped_by=0):
    return types.SimpleNamespace(scores=evaluation().metrics, state=state(step), stopped_by=stopped_by)


def draw(workdir, step):
    """Writes a figure as the writers of a run do."""
    (workdir / "images").mkdir(exist_ok=True)
    Image.new("RGB", (5, 3)).save(workdir / "images" / f"{step:07d}_predictions.png")


def take_steps(callback, workdir, steps, *, start=0):
    """Calls the events of a run that logs each of some steps, and evaluates the even ones."""
    callback.on_start(RUN, state(start))
    for step in steps:
        callback.on_log(step, {"loss": 1 / step}, None)
        if step % 2 == 0:
            draw(workdir, step)
            callback.on_evaluation(step, evaluation())
