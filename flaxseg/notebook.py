"""Training in a notebook, of Jupyter or Colab: live curves, short errors, uploads and downloads."""

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.data.types import Color
from flaxseg.errors import FlaxsegError, check_integer
from flaxseg.report.drawing import encode_png, figure_to_array, new_figure, overlay
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics

Curve = Sequence[tuple[int, float]]
"""Steps and values."""

_MAX_FRACTION = 0.05
"""The largest fraction of the time that goes into drawing, except for the drawings of evaluations."""


class LiveCurves(Callback):
    """Draws the loss, the scores and the latest predictions of a run below the cell of a notebook that trains it.

    The figure appears in the cell that creates the object, and is updated at each evaluation and when losses are
    logged, except where drawing would take more than a twentieth of the time. The devices compute meanwhile.

    Args:
      scores: the names of the scores to draw, such as those of `Result.scores.compute()`.
      images: the largest number of predictions to show, at least 0; a run collects `log.images` of them.

    Raises:
      FlaxsegError: IPython is not installed.
    """

    def __init__(self, scores: Sequence[str] = ("miou", "pixel_accuracy"), *, images: int = 4) -> None:
        check_integer("images", images, 0)
        self._loss: list[tuple[int, float]] = []
        self._scores: dict[str, list[tuple[int, float]]] = {name: [] for name in scores}
        self._num_images = images
        self._predictions: list[np.ndarray] = []
        self._palette: Sequence[Color] = ()
        self._steps = 0
        self._next_drawing = 0.0
        # Displayed now, so that what the run prints comes below the figure. The handle is None outside of a notebook.
        self._display = _ipython().display
        self._handle: Any = self._display.display(self._display.HTML(""), display_id=True)

    def on_start(self, run: Run, state: TrainState) -> None:
        """Shows an empty figure; after a return to a checkpoint, drops the points of later steps."""
        self._steps, self._palette = run.loop.total_steps, run.data.to_show.palette
        for curve in (self._loss, *self._scores.values()):
            curve[:] = [point for point in curve if point[0] <= int(state.step)]
        self._draw()

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        """Adds the loss to its curve."""
        self._loss.append((step, scalars["loss"]))
        if time.monotonic() >= self._next_drawing:
            self._draw()

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Adds the scores to their curves."""
        for name, curve in self._scores.items():
            if name in evaluation.scores:
                curve.append((step, evaluation.scores[name]))
        shown = evaluation.images[: self._num_images]
        self._predictions = [overlay(each.image, each.prediction, self._palette) for each in shown]
        self._draw()

    def on_end(self, result: Result) -> None:
        """Draws the last losses."""
        self._draw()

    def _draw(self) -> None:
        start = time.monotonic()
        figure = live_figure(self._loss, self._scores, steps=self._steps, predictions=self._predictions)
        if self._handle is not None:
            self._handle.update(self._display.Image(data=encode_png(figure)))
        end = time.monotonic()
        self._next_drawing = end + (end - start) / _MAX_FRACTION


def live_figure(
    loss: Curve, scores: Mapping[str, Curve], *, steps: int, predictions: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Returns a figure of the training loss and of the scores by step, above some predictions.

    Args:
      loss: the training loss.
      scores: the curve of each score, by name.
      steps: the number of steps of the run, where the axes end.
      predictions: images with the predicted classes drawn over them, uint8[H, W, 3].

    Returns:
      uint8[height, width, 3].
    """
    figure = new_figure(width=9, height=3 + (2.6 if predictions else 0))
    parts = figure.subfigures(1 + bool(predictions), 1, height_ratios=(3, 2.6)[: 1 + bool(predictions)], squeeze=False)
    left, right = parts[0, 0].subplots(1, 2)
    _plot(left, "training loss", {"loss": loss}, steps)
    _plot(right, "evaluation", scores, steps)
    if scores:
        right.legend(loc="lower right", fontsize=8)
    for below in parts[1:, 0]:
        for axis, prediction in zip(below.subplots(1, len(predictions), squeeze=False)[0], predictions, strict=True):
            axis.imshow(prediction)
            axis.set_axis_off()
        below.suptitle("latest predictions", fontsize=10)
    return figure_to_array(figure)


def _plot(axis: Any, title: str, curves: Mapping[str, Curve], steps: int) -> None:
    for name, curve in curves.items():
        axis.plot([step for step, _ in curve], [value for _, value in curve], marker=".", label=name)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step")
    axis.set_xlim(0, max(steps, 1))
    axis.grid(alpha=0.3)


def show_short_errors() -> None:
    """Makes the notebook show an error of flaxseg as its message alone, as the commands do, without a stack trace.

    The cell has failed nevertheless, and the next ones are not run. Other errors keep their stack trace. Does nothing
    outside of IPython.

    Raises:
      FlaxsegError: IPython is not installed.
    """
    shell = _ipython().get_ipython()
    if shell is not None:
        shell.set_custom_exc((FlaxsegError,), _print_error)


def _print_error(shell: Any, kind: type, error: Exception, trace: Any, tb_offset: int | None = None) -> None:
    print(f"error: {error}", file=sys.stderr)


def upload(use: Callable[[Path], object]) -> None:
    """Asks for files, and calls a function with the path of each of them.

    In Colab a dialog opens, and the call returns when it is closed. In Jupyter a button appears, if ipywidgets is
    installed, and the function is called when files have been chosen. Otherwise a line says what to do.

    Args:
      use: called with the path of a copy in a new folder; its errors about input are printed.
    """
    if files := _colab_files():
        _use(files.upload(), use)
        return
    try:
        widgets = importlib.import_module("ipywidgets")
    except ImportError:
        print("To upload files, install ipywidgets and restart the notebook, or give the path of a file instead.")
        return
    button, output = widgets.FileUpload(multiple=True), widgets.Output()

    def on_change(change: Mapping[str, Any]) -> None:
        with output:
            _use({file["name"]: bytes(file["content"]) for file in change["new"]}, use)

    button.observe(on_change, names="value")
    _ipython().display.display(button, output)


def download(path: str | Path) -> None:
    """Offers a file for download: in Colab at once, and otherwise as a link below the cell.

    Raises:
      FlaxsegError: there is no such file, or IPython is not installed.
    """
    if not Path(path).is_file():
        raise FlaxsegError(f"{path}: is not a file; a folder has to be packed first, as by shutil.make_archive")
    if files := _colab_files():
        files.download(str(path))
    else:
        display = _ipython().display
        display.display(display.FileLink(str(path)))


def _use(contents: Mapping[str, bytes], use: Callable[[Path], object]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="uploads-"))
    for name, content in contents.items():
        path = folder / Path(name).name
        path.write_bytes(content)
        try:
            use(path)
        except FlaxsegError as error:
            print(f"error: {error}", file=sys.stderr)


def _colab_files() -> Any:
    """Returns Colab's module of uploads and downloads; None elsewhere."""
    return importlib.import_module("google.colab.files") if "google.colab" in sys.modules else None


def _ipython() -> Any:
    try:
        import IPython.display
    except ImportError as error:
        raise FlaxsegError(
            "IPython is not installed, which every notebook has; run this in a notebook, or pip install ipython"
        ) from error
    return IPython
