"""A callback that sends the log of a run to MLflow."""

import importlib
import re
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict
from PIL import Image

from flaxseg.callbacks.tracking import FAILED, FINISHED, STOPPED, Tracking, run_name
from flaxseg.train.callbacks import Callback

_STATUSES = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}

_MAX_PARAMETERS, _MAX_VALUE, _MAX_NAME = 100, 500, 250
"""Number of parameters in one request, and of characters in a value and in a name, that every server accepts."""

_NOT_ALLOWED = re.compile(r"[^\w\-. ]")
"""Characters that no part of a name can have, on any operating system."""


def mlflow_callback(
    *,
    workdir: Path,
    config: ConfigDict,
    tracking_uri: str = "",
    experiment: str = "flaxseg",
    name: str = "",
) -> Callback:
    """Returns a callback that sends the log of a run to MLflow; needs the extra `mlflow`.

    Args:
      workdir: the working directory of the run.
      config: the configuration of the run.
      tracking_uri: the address of the server, or a local store, as in file:///data/mlruns; "": as MLFLOW_TRACKING_URI
        says.
      experiment: the name of the experiment that the run belongs to.
      name: the name of the run; "": that of the working directory.

    Raises:
      ImportError: mlflow is not installed.
    """
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError as error:
        raise ImportError(f"needs mlflow ({error}): pip install 'flaxseg[mlflow]'") from error
    run = MlflowRun(mlflow, tracking_uri=tracking_uri, experiment=experiment, name=name or run_name(workdir))
    return Tracking(run, name="mlflow", workdir=workdir, config=config)


class MlflowRun:
    """A run of MLflow; see `Service`.

    Args:
      mlflow: the module.
      tracking_uri: the address of the server; "": MLflow's default.
      experiment: the name of the experiment.
      name: the name of the run.
    """

    def __init__(self, mlflow: Any, *, tracking_uri: str, experiment: str, name: str) -> None:
        self._mlflow = mlflow
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._name = name
        self._client: Any = None
        self._run_id = ""

    def open(self, run_id: str) -> str:
        """Begins a run, or continues one that has an id, and returns its id."""
        self._client = self._mlflow.MlflowClient(tracking_uri=self._tracking_uri or None)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(self._experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(self._experiment)
            run_id = self._client.create_run(experiment_id, run_name=self._name).info.run_id
        self._run_id = run_id
        return run_id

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Sends the configuration: as parameters, which cannot change when a run is continued, and as a file."""
        known = self._client.get_run(self._run_id).data.params
        flat = {entity_name(key): value for key, value in traverse_util.flatten_dict(config, sep=".").items()}
        parameters = [
            self._mlflow.entities.Param(name, str(value)[:_MAX_VALUE])
            for name, value in flat.items()
            if name not in known
        ]
        for start in range(0, len(parameters), _MAX_PARAMETERS):
            self._client.log_batch(self._run_id, params=parameters[start : start + _MAX_PARAMETERS])
        self._client.log_dict(self._run_id, dict(config), "config.json")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Sends numbers of a step by their names."""
        now = int(1000 * time.time())
        metrics = [
            self._mlflow.entities.Metric(entity_name(name), float(value), now, step) for name, value in scalars.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Sends PNG files of a step by their names."""
        for name, path in images.items():
            with Image.open(path) as image:
                self._client.log_image(self._run_id, image, key=f"images/{name}", step=step)

    def log_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Sends the final scores by their names."""
        self.log(step, scores)

    def close(self, status: str) -> None:
        """Ends the run."""
        self._client.set_terminated(self._run_id, _STATUSES[status])


def entity_name(name: str) -> str:
    """Returns a name that MLflow accepts for a metric or parameter.

    What is not allowed becomes an underscore, and a checksum of the name keeps different names different.
    """
    parts = [_NOT_ALLOWED.sub("_", part) for part in name.split("/")]
    plain = "/".join("_" * max(len(part), 1) if not part.strip(".") else part for part in parts)
    if plain == name and len(name) <= _MAX_NAME:
        return name
    return f"{plain[: _MAX_NAME - 9]}_{zlib.crc32(name.encode()):08x}"
