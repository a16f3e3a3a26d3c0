"""The summaries of a run: scalars, figures and tables for TensorBoard, and the figures as PNG files."""

import contextlib
import csv
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import jax
import numpy as np

from flaxseg import metrics
from flaxseg.data.types import Example, SegmentationDataset
from flaxseg.errors import CheckpointError
from flaxseg.report.charts import chart_layout
from flaxseg.report.console import print_line
from flaxseg.report.drawing import encode_png
from flaxseg.report.event_files import BATCH, CONFIG, EVALUATION, drop_repeated_events, event_files
from flaxseg.report.event_writer import EventWriter
from flaxseg.report.figures import confusion_figure, reliability_figure
from flaxseg.report.histograms import histogram_summaries
from flaxseg.report.hparams import HyperParameters, hparams_summaries
from flaxseg.report.image_summaries import image_summaries
from flaxseg.report.panels import Predicted, batch_panel, hardest_panel, prediction_panel
from flaxseg.report.step_rows import StepRows

_FIGURES = "confusion_matrix|predictions|worst|reliability|hardest_examples|batch"

_FIGURE_FILE = re.compile(rf"(\d{{7,}})_({_FIGURES})\.png")
"""The names of the figures in `images/`, which begin with the step."""


def evaluation_scalars(scores: Mapping[str, float]) -> dict[str, float]:
    """Returns the scores of an evaluation under names such as `eval/miou`.

    Undefined scores, such as the IoU of a class that never occurs, are omitted.
    """
    return {f"{EVALUATION}{name}": value for name, value in scores.items() if not np.isnan(value)}


class Summaries:
    """Writes the summaries of a run into its working directory; only the first process writes.

    TensorBoard's event files are in the directory itself, figures in `images/`. Use it in a `with` block.

    Args:
      workdir: the working directory.
      dataset: the dataset whose class names and colors are shown.
      writer: one of `metric_writers.WRITERS`; CLU's imports TensorFlow, and "none" writes no event files.
      confusion_matrix: draw the confusion matrix of each evaluation.
      wait: called in the thread that writes, before it begins; see `EventWriter`.

    Raises:
      ArgumentError: an unknown writer, or CLU's without TensorFlow.
    """

    def __init__(
        self,
        workdir: Path,
        dataset: SegmentationDataset,
        *,
        writer: str = "auto",
        confusion_matrix: bool = True,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self._dataset = dataset
        self._draws_confusion_matrix = confusion_matrix
        self._is_writing, self._writes_events = jax.process_index() == 0, writer != "none"
        self._images = workdir / "images"
        self._has_warned = False
        self._per_image = workdir / "per_image.csv"
        first_column = lambda row: int(row.partition(",")[0])  # noqa: E731
        self._hardest = StepRows(workdir / "hardest_examples.csv", first_column, header="step,id,loss\r\n")
        self._earlier = event_files(workdir) if self._is_writing else []
        if self._is_writing:
            self._images.mkdir(parents=True, exist_ok=True)
        self._writer = EventWriter(workdir, writer=writer, just_logging=not self._is_writing, wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def start(
        self,
        hparams: HyperParameters,
        config: str,
        tables: Mapping[str, str],
        *,
        step: int = 0,
        repeats_evaluation: bool = False,
    ) -> None:
        """Writes the configuration of a run, the layout of its charts, and text tables under their names.

        Args:
          hparams: the configuration as hyper-parameters.
          config: the configuration as Markdown.
          tables: the tables; written only if the run begins at step 0, like the layout.
          step: the step at which the run begins. Later summaries of an earlier part of the run, with their figures and
            tables, are removed first.
          repeats_evaluation: whether the run begins with the evaluation of this step, whose summaries are then removed,
            too.

        Raises:
          CheckpointError: a file of an earlier part cannot be read, written or removed.
        """
        drop_repeated_events(
            self._earlier, step, repeats_evaluation=repeats_evaluation, writes_config=self._writes_events
        )
        if self._is_writing:
            self._hardest.cut_after(step)
            self._remove_later_files(step)
        self._writer.write_summaries(0, functools.partial(hparams_summaries, hparams))
        self._writer.write_texts(0, {CONFIG: config})
        if step == 0:
            self._writer.write_texts(0, {name: f"<pre>{table}</pre>" for name, table in tables.items()})
            self._writer.write_summaries(0, chart_layout)

    def flush(self) -> None:
        """Waits until everything has been written to the files."""
        self._writer.flush()

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars such as `loss` under names such as `train/loss`."""
        self._writer.write_scalars(step, {f"train/{name}": value for name, value in scalars.items()})

    def evaluation(
        self, step: int, confusion: metrics.ConfusionMatrix, scores: Mapping[str, float], images: Sequence[Predicted]
    ) -> None:
        """Writes scores, a figure of the confusion matrix, and a panel of images with their predictions."""
        counts, names = np.asarray(confusion.counts), self._dataset.class_names
        self._writer.write_scalars(step, evaluation_scalars(scores))
        if self._draws_confusion_matrix:
            self._write_figure(step, f"{EVALUATION}confusion_matrix", confusion_figure(counts, names))
        if images:
            panel = prediction_panel(images, names, self._dataset.palette)
            self._write_figure(step, f"{EVALUATION}predictions", panel)
        self.flush()

    def worst(self, step: int, images: Sequence[Predicted]) -> None:
        """Writes a panel of images with their predictions and maps of their wrong pixels."""
        panel = prediction_panel(images, self._dataset.class_names, self._dataset.palette, errors=True)
        self._write_figure(step, f"{EVALUATION}worst", panel)

    def batch(self, step: int, images: np.ndarray, labels: np.ndarray) -> None:
        """Writes a panel of a training batch, float32 or uint8[N, H, W, C] and uint8[N, H, W]."""
        panel = batch_panel(images, labels, self._dataset.class_names, self._dataset.palette)
        self._write_figure(step, BATCH, panel)

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes histograms of arrays by their tags."""
        self._writer.write_summaries(step, functools.partial(histogram_summaries, arrays))

    def per_image(self, step: int, ids: Sequence[str], iou: np.ndarray, dice: np.ndarray) -> None:
        """Writes the mean IoU and Dice of each image, float64[N], to `per_image.csv`, the worst first."""
        if not self._is_writing:
            return
        new = self._per_image.with_name("per_image.csv.new")
        with self._reported(new):
            with new.open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(("step", "id", "iou", "dice"))
                # Images without valid pixels, whose scores are NaN, come last.
                order = np.argsort(iou, kind="stable")
                rows.writerows((step, ids[i], f"{iou[i]:.6g}", f"{dice[i]:.6g}") for i in order)
            new.replace(self._per_image)

    def reliability(self, step: int, table: metrics.Reliability) -> None:
        """Writes a reliability diagram."""
        self._write_figure(step, f"{EVALUATION}reliability", reliability_figure(table))

    def hardest(self, step: int, examples: Sequence[tuple[str, float]]) -> None:
        """Appends the id and loss of each example to `hardest_examples.csv`."""
        if self._is_writing:
            text = io.StringIO()
            csv.writer(text).writerows((step, name, f"{loss:.6g}") for name, loss in examples)
            self._hardest.append(text.getvalue().splitlines(keepends=True))

    def hardest_images(
        self, step: int, examples: Sequence[tuple[Example, float]], dataset: SegmentationDataset
    ) -> None:
        """Writes a panel of examples, each with its label and loss."""
        panel = hardest_panel(examples, dataset.class_names, dataset.palette)
        self._write_figure(step, "train/hardest_examples", panel)

    def _write_figure(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes uint8[H, W, 3] to TensorBoard, and as a PNG file named by its step."""
        if not self._is_writing:
            return
        png, (height, width) = encode_png(image), image.shape[:2]
        self._writer.write_summaries(step, lambda: image_summaries(name, png, height=height, width=width))
        path = self._images / f"{step:07d}_{name.rpartition('/')[2]}.png"
        with self._reported(path):
            path.write_bytes(png)

    def _remove_later_files(self, step: int) -> None:
        """Removes the figures of later steps, which may be unfinished, and the scores of images at a later step."""
        try:
            figures = [(path, _FIGURE_FILE.fullmatch(path.name)) for path in self._images.iterdir()]
            later = [path for path, match in figures if match and int(match[1]) > step]
            if self._per_image.exists():
                with self._per_image.open("rb") as file:
                    first = [row.partition(b",")[0] for row in itertools.islice(file, 1, 2)]
                later += [self._per_image for found in first if found.isdigit() and int(found) > step]
            for path in later:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{error.filename}: cannot be read and removed ({error.strerror}); make it accessible, or move it away"
            ) from error

    @contextlib.contextmanager
    def _reported(self, path: Path) -> Iterator[None]:
        """Removes a file that cannot be written in the block, and reports the first one; the run continues."""
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if not self._has_warned:
                self._has_warned = True
                with contextlib.suppress(OSError):  # Standard error may be a file on the same full disk.
                    print_line(f"{path}: cannot be written ({error.strerror}); training continues")
