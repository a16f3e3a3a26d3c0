"""A callback that sends the log of a run to a tracking service, and continues the same run there when it is resumed."""

import json
import re
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict

from flaxseg.callbacks.outbox import Outbox
from flaxseg.report.tensorboard import evaluation_scalars
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""How a run ended: after its last step, because of a signal, or because of an exception."""

PATIENCE_SECONDS, STOPPED_PATIENCE_SECONDS = 120.0, 20.0
"""How long the end of a run waits for its log to be sent: after the last step, and otherwise; a scheduler often gives
30 s after its signal."""


class Service(Protocol):
    """A run in a tracking service. All methods are called in one thread; one that raises is called again later."""

    def open(self, run_id: str) -> str:
        """Begins a run, or continues one that has an id, and returns its id."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Sends the configuration, a nested dictionary; also of a run that is continued."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Sends numbers of a step by their names."""

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Sends PNG files of a step by their names."""

    def log_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Sends the scores at the end of a run, after its last step, by their names."""

    def close(self, status: str) -> None:
        """Ends the run, which is FINISHED, STOPPED or FAILED."""


class Tracking(Callback):
    """Sends scalars, figures, the configuration and the final scores of a run to a service, in a thread.

    A file in the working directory holds the id of the run there, and the last step that was sent, so that a resumed
    run continues the same run and sends nothing twice: the steps it repeats are the same. A service that fails never
    ends the run; see `Outbox`. Only the first process sends.

    Args:
      service: the service.
      name: its name; the file is `NAME.json`.
      workdir: the working directory of the run.
      config: its configuration.
    """

    def __init__(self, service: Service, *, name: str, workdir: Path, config: ConfigDict) -> None:
        self._service = service
        self._name = name
        self._record = workdir / f"{name}.json"
        self._images = workdir / "images"
        self._config = config.to_dict()
        self._run_id = ""
        self._sent: dict[str, int] = {}
        self._outbox: Outbox | None = None

    def on_start(self, run: Run, state: TrainState) -> None:
        # It is called again when the run has returned to a checkpoint.
        if jax.process_index() == 0 and self._outbox is None:
            self._outbox = Outbox(self._name)
            self._outbox.put(self._open)
            self._outbox.put(lambda: self._service.log_config(self._config))

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        named = {f"train/{name}": value for name, value in scalars.items()}
        self._put("train", step, lambda: self._service.log(step, named))

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        if self._outbox is None:
            return
        scalars = evaluation_scalars(evaluation.scores)
        self._put("eval", step, lambda: self._service.log(step, scalars))
        # The figures of this step, which the writers of the run have just drawn.
        files = {path.stem.partition("_")[2]: path for path in sorted(self._images.glob(f"{step:07d}_*.png"))}
        if files:
            self._put("images", step, lambda: self._service.log_images(step, _existing(files)))

    def on_end(self, result: Result) -> None:
        if result.scores and not result.stopped_by:
            scores = {f"final/{name}": value for name, value in result.scores.compute().items() if not isnan(value)}
            step = int(result.state.step)
            self._put("final", step, lambda: self._service.log_scores(step, scores))
        self._close(STOPPED if result.stopped_by else FINISHED)

    def on_error(self, error: BaseException) -> None:
        self._close(FAILED)

    def _put(self, kind: str, step: int, send: Callable[[], None]) -> None:
        """Sends what belongs to a step, unless an earlier part of the run has sent it."""

        def send_once() -> None:
            if step > self._sent.get(kind, -1):
                send()
                self._sent[kind] = step
                self._write_record()

        if self._outbox is not None:
            self._outbox.put(send_once)

    def _close(self, status: str) -> None:
        if self._outbox is not None:
            self._outbox.put(lambda: self._service.close(status))
            self._outbox.close(PATIENCE_SECONDS if status == FINISHED else STOPPED_PATIENCE_SECONDS)
            self._outbox = None

    def _open(self) -> None:
        self._read_record()
        self._run_id = self._service.open(self._run_id)
        self._write_record()

    def _read_record(self) -> None:
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
            self._run_id = str(found["run"])
            self._sent = {kind: int(step) for kind, step in found["sent"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self._record} cannot be read; delete it to begin a new run there") from error

    def _write_record(self) -> None:
        new = self._record.with_name(f"{self._record.name}.new")
        new.write_text(json.dumps({"run": self._run_id, "sent": self._sent}) + "\n", encoding="utf-8")
        new.replace(self._record)


def run_name(workdir: Path) -> str:
    """Returns the name of a run: that of its working directory, and of the one above if runs are trained together."""
    path = workdir.absolute()
    is_member = re.fullmatch(r"seed-\d+(_(learning_rate|loss)-.*)?", path.name)
    return f"{path.parent.name}/{path.name}" if is_member else path.name


def _existing(files: Mapping[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in files.items() if path.exists()}
