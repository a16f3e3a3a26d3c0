"""A callback that writes the log of a run as a table for spreadsheets: `metrics.csv`."""

import time
from collections.abc import Mapping
from pathlib import Path

import jax

from flaxseg.report.event_files import EVALUATION
from flaxseg.report.step_table import StepTable
from flaxseg.report.tensorboard import evaluation_scalars
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics


def csv_callback(*, workdir: Path) -> Callback:
    """Returns a callback that writes `metrics.csv` in the working directory.

    Args:
      workdir: the working directory of the run.
    """
    return CsvWriter(workdir / "metrics.csv")


class CsvWriter(Callback):
    """Writes a CSV file with a row for each logged step and each evaluation, with the numbers of `metrics.jsonl`.

    A row of a step has no value in the columns of evaluations, and the reverse. Only the first process writes.

    Args:
      path: the file. Rows that a resumed run repeats are removed first.
    """

    def __init__(self, path: Path) -> None:
        self._table = StepTable(path)
        self._start = 0

    def on_start(self, run: Run, state: TrainState) -> None:
        self._start = int(state.step)
        if jax.process_index() == 0:
            self._table.cut_after(self._start)

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        self._append(step, {f"train/{name}": value for name, value in scalars.items()})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        if step == self._start and jax.process_index() == 0:
            # The run was stopped before the scores of this evaluation were saved, and repeats it.
            self._table.cut_after(step, is_repeated=lambda row: any(name.startswith(EVALUATION) for name in row))
        self._append(step, evaluation_scalars(evaluation.scores))

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        self._flush()

    def on_end(self, result: Result) -> None:
        self._flush()

    def _append(self, step: int, scalars: Mapping[str, float]) -> None:
        if jax.process_index() == 0:
            self._table.append({"step": step, "wall_time": round(time.time(), 3), **scalars})

    def _flush(self) -> None:
        if jax.process_index() == 0:
            self._table.flush()
