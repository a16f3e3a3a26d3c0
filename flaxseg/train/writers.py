"""The callbacks of every run, which write its summaries, metrics, samples, hardest examples and checkpoints."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax

from flaxseg.data.stored_samples import take_samples, write_samples
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import CheckpointError
from flaxseg.inference.description import ModelDescription
from flaxseg.metrics import Calibration, PerImage
from flaxseg.report.event_files import EVALUATION
from flaxseg.report.step_rows import StepRows
from flaxseg.report.tensorboard import Summaries, evaluation_scalars
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.hard_examples import HARDEST, HardExamples
from flaxseg.train.recovery import ROLLBACKS, SKIPPED
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics


class SummaryWriter(Callback):
    """Writes training scalars, and the scores and images of evaluations."""

    def __init__(self, summaries: Summaries, evaluation_set: SegmentationDataset) -> None:
        self._summaries = summaries
        self._source = evaluation_set.source

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        self._summaries.training(step, scalars)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._summaries.evaluation(step, evaluation.metrics.confusion, evaluation.scores, evaluation.images)
        if evaluation.worst:
            self._summaries.worst(step, evaluation.worst)
        for metric in evaluation.metrics.others.values():
            if isinstance(metric, PerImage):
                ids = [self._source.example_id(index) for index in range(len(self._source))]
                # Rows are in the order of the dataset, with the padding of the last batch at the end.
                self._summaries.per_image(step, ids, metric.image_iou()[: len(ids)], metric.image_dice()[: len(ids)])
            elif isinstance(metric, Calibration):
                self._summaries.reliability(step, metric.reliability())

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        # A run resumed from this checkpoint does not write the summaries of earlier steps again.
        self._summaries.flush()


class MetricsWriter(Callback):
    """Writes the numbers of TensorBoard to a text file: one JSON object a line for each logged step and evaluation.

    JSON lines instead of CSV, because the rows of steps and of evaluations have different columns, and those of a
    resumed run may have further ones: `pandas.read_json(path, lines=True)` reads them all. Numbers that are not finite
    are null.

    Args:
      path: the file. Rows after the step at which a run is resumed are removed.
      repeats_evaluation: whether the run begins with an evaluation that an earlier part of it may have made, but whose
        scores are in no checkpoint.
    """

    def __init__(self, path: Path, *, repeats_evaluation: bool = False) -> None:
        self._rows = StepRows(path, _step_of)
        self._repeats_evaluation = repeats_evaluation

    def on_start(self, run: Run, state: TrainState) -> None:
        if jax.process_index() == 0:
            self._rows.cut_after(int(state.step), is_repeated=self._is_repeated)

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        self._append(step, {f"train/{name}": value for name, value in scalars.items()})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._append(step, evaluation_scalars(evaluation.scores))

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        self._rows.flush()

    def on_end(self, result: Result) -> None:
        self._rows.flush()

    def _is_repeated(self, row: str) -> bool:
        return self._repeats_evaluation and any(name.startswith(EVALUATION) for name in json.loads(row))

    def _append(self, step: int, scalars: Mapping[str, float]) -> None:
        if jax.process_index() == 0:
            finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
            self._rows.append([json.dumps({"step": step, "wall_time": round(time.time(), 3)} | finite) + "\n"])


class HardestExamplesWriter(Callback):
    """Lists the training examples with the largest loss, and shows the latest ones at each evaluation."""

    def __init__(self, summaries: Summaries, training_set: SegmentationDataset) -> None:
        self._summaries = summaries
        self._dataset = training_set
        self._latest: list[tuple[int, float]] = []

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        hardest = metrics.extra.get(HARDEST)
        if isinstance(hardest, HardExamples):
            self._latest = hardest.pairs()
            source = self._dataset.source
            self._summaries.hardest(step, [(source.example_id(index), loss) for index, loss in self._latest])

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        if self._latest:
            shown = [(self._dataset.source[index], loss) for index, loss in self._latest]
            self._summaries.hardest_images(step, shown, self._dataset)


class CheckpointWriter(Callback):
    """Saves the state when a checkpoint is due, with the numbers of skipped steps and of returns to a checkpoint."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._counts: dict[str, int] = {}

    def on_start(self, run: Run, state: TrainState) -> None:
        self._counts = {ROLLBACKS: run.loop.faults.rollbacks}

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        self._counts[SKIPPED] = int(metrics.check.skipped)

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        self._checkpoints.save(step, state, scores, self._counts)

    def on_end(self, result: Result) -> None:
        # Here, because the state is still at hand, in case that its save has failed.
        self._checkpoints.finish(int(result.state.step), result.state)


class SampleWriter(Callback):
    """Stores a few images when a run begins, once, for checks of what is made of its network.

    They come from the evaluation set, or from the training set of a run that is not evaluated.
    """

    def __init__(self, path: Path, description: ModelDescription) -> None:
        self._path = path
        self._image_size = description.image_size
        self._scale = description.scale if description.resize == "keep" else None

    def on_start(self, run: Run, state: TrainState) -> None:
        if jax.process_index() != 0 or self._path.exists():
            return
        samples = take_samples(run.data.to_show, image_size=self._image_size, scale=self._scale)
        try:
            write_samples(self._path, samples)
        except OSError as error:
            raise CheckpointError(
                f"{self._path}: cannot be written ({error.strerror}); free space on the disk, or give another --workdir"
            ) from error


def _step_of(row: str) -> int:
    try:
        return int(json.loads(row)["step"])
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(row) from error
