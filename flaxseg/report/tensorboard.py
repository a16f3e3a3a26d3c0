"""What a run shows: scalars, pictures and the confusion matrix, in TensorBoard and as PNG files.

The CLU writer imports TensorFlow, so it is imported where a Summaries is made and not with this file.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from matplotlib.figure import Figure

from flaxseg import metrics
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset
from flaxseg.report.drawing import add_legend, colorise, displayable, overlay, rendered, save

MAX_CLASSES_WITH_NUMBERS = 12
"""A confusion matrix of more classes shows colors only: numbers would not be readable."""


class Summaries:
    """Writes a run's summaries into its working directory; only the first process writes.

    TensorBoard's event files lie in the directory itself, pictures in `pictures/`.

    Args:
      workdir: the working directory.
      dataset: names and colors of its classes are shown.
    """

    def __init__(self, workdir: Path, dataset: SegmentationDataset) -> None:
        import tensorflow as tf
        from clu import metric_writers

        tf.config.set_visible_devices([], "GPU")
        self._dataset = dataset
        self._writing = jax.process_index() == 0
        self._pictures = workdir / "pictures"
        self._hardest, self._per_image = workdir / "hardest_examples.csv", workdir / "per_image.csv"
        if self._writing:
            self._pictures.mkdir(parents=True, exist_ok=True)
        self._writer = metric_writers.create_default_writer(str(workdir), just_logging=not self._writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def start(self, config: Mapping[str, Any], tables: Mapping[str, str], step: int = 0) -> None:
        """Writes the hyper-parameters, and tables as text, each under its name, for a run that begins at a step."""
        if self._writing and self._hardest.exists():
            # Steps that are taken again list their examples again.
            header, *rows = self._hardest.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [row for row in rows if int(row.partition(",")[0]) <= step]
            self._hardest.write_text("".join([header, *kept]), encoding="utf-8")
        self._writer.write_hparams({key: _plain(value) for key, value in config.items()})
        self._writer.write_texts(0, {name: f"<pre>{table}</pre>" for name, table in tables.items()})

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars such as `loss` as `train/loss`."""
        self._writer.write_scalars(step, {f"train/{name}": value for name, value in scalars.items()})

    def hardest(self, step: int, examples: Sequence[tuple[str, float]]) -> None:
        """Adds rows of the step, and of the id and loss of each example, to `hardest_examples.csv`."""
        if not self._writing:
            return
        is_new = not self._hardest.exists()
        with self._hardest.open("a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if is_new:
                rows.writerow(("step", "id", "loss"))
            rows.writerows((step, name, f"{loss:.6g}") for name, loss in examples)

    def hardest_pictures(
        self, step: int, examples: Sequence[tuple[Example, float]], dataset: SegmentationDataset
    ) -> None:
        """Writes a picture of examples, each with its label and its loss."""
        picture = hardest_panel(examples, dataset.class_names, dataset.palette)
        self._writer.write_images(step, {"train/hardest_examples": picture[None]})
        if self._writing:
            save(self._pictures / f"{step:07d}_hardest_examples.png", picture)

    def evaluation(self, step: int, counts: np.ndarray, scores: Mapping[str, float], pictures: "Pictures") -> None:
        """Writes scores, the picture of a confusion matrix int64[K, K], and a panel of predictions."""
        # What is not defined, such as the IoU of a class that nothing has, gets no point in its chart.
        scalars = {f"eval/{name}": value for name, value in scores.items() if not np.isnan(value)}
        names = self._dataset.class_names
        of_classes = zip(names, metrics.iou(counts), strict=True)
        scalars |= {f"eval/iou/{name}": float(value) for name, value in of_classes if not np.isnan(value)}
        self._writer.write_scalars(step, scalars)
        shown = {"eval/confusion_matrix": confusion_picture(counts, names)}
        if pictures.count:
            shown["eval/predictions"] = panel(pictures, names, self._dataset.palette)
        self._writer.write_images(step, {name: picture[None] for name, picture in shown.items()})
        if self._writing:
            for name, picture in shown.items():
                save(self._pictures / f"{step:07d}_{name.removeprefix('eval/')}.png", picture)
        self._writer.flush()

    def per_image(self, step: int, ids: Sequence[str], iou: np.ndarray, dice: np.ndarray) -> None:
        """Writes each picture's mean IoU and Dice, float64[N], to `per_image.csv`, the worst first."""
        if not self._writing:
            return
        with self._per_image.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("step", "id", "iou", "dice"))
            # Last come pictures of which nothing counts, whose scores are NaN.
            rows.writerows((step, ids[i], f"{iou[i]:.6g}", f"{dice[i]:.6g}") for i in np.argsort(iou, kind="stable"))

    def reliability(self, step: int, found: metrics.Reliability) -> None:
        """Writes the picture of a reliability table."""
        picture = reliability_picture(found)
        self._writer.write_images(step, {"eval/reliability": picture[None]})
        if self._writing:
            save(self._pictures / f"{step:07d}_reliability.png", picture)


class Pictures:
    """The first few examples of an evaluation with what was predicted, gathered batch by batch."""

    def __init__(self, count: int) -> None:
        self._wanted = count
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def count(self) -> int:
        """How many examples were gathered."""
        return len(self._rows)

    @property
    def rows(self) -> Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Picture uint8[H, W, C], label uint8[h, w] at its own size, and prediction uint8[H, W] of each."""
        return self._rows

    @property
    def wants_more(self) -> bool:
        """Whether the next batch would still be used."""
        return self.count < self._wanted

    def add(self, batch: Mapping[str, np.ndarray], prediction: np.ndarray) -> None:
        """Takes examples of a batch; those that only fill it up are passed over."""
        for index, (image, label) in enumerate(zip(batch["image"], batch["label"], strict=True)):
            if "size" in batch:
                height, width = batch["size"][index]
                label = label[:height, :width]
            if self.wants_more and (label != IGNORE_LABEL).any():
                self._rows.append((image, label, prediction[index]))


def panel(pictures: Pictures, class_names: Sequence[str], palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns a picture, uint8[H, W, 3], of examples below one another: picture, label, prediction, and a legend."""
    figure = Figure(figsize=(7.5, 2.4 * pictures.count + 0.8), dpi=100, layout="constrained")
    axes = figure.subplots(pictures.count, 3, squeeze=False)
    for row, (image, label, prediction) in zip(axes, pictures.rows, strict=True):
        shown = (displayable(image), colorise(label, palette), colorise(prediction, palette))
        for axis, content in zip(row, shown, strict=True):
            # The network sees every picture at one shape; it is shown at the shape that the label has.
            axis.imshow(content, extent=(0, label.shape[1], label.shape[0], 0), interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("picture", "label", "prediction"), strict=True):
        axis.set_title(title, fontsize=10)
    add_legend(figure, class_names, palette)
    return rendered(figure)


def hardest_panel(
    examples: Sequence[tuple[Example, float]], class_names: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Returns a picture, uint8[H, W, 3], of examples below one another: picture, label over it, id and loss."""
    figure = Figure(figsize=(6, 2.4 * len(examples) + 0.8), dpi=100, layout="constrained")
    axes = figure.subplots(len(examples), 2, squeeze=False)
    for row, (example, loss) in zip(axes, examples, strict=True):
        image, label = example["image"], example["label"]
        for axis, content in zip(row, (displayable(image), overlay(image, label, palette)), strict=True):
            axis.imshow(content, interpolation="nearest")
            axis.set_axis_off()
        row[0].set_title(f"{example['id']}: loss {loss:.3g}", fontsize=9, loc="left")
    add_legend(figure, class_names, palette)
    return rendered(figure)


def confusion_picture(counts: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns a picture, uint8[H, W, 3], of a confusion matrix, each row as shares of the true class's pixels."""
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(0.75 * classes + 2.2, 4.0), 14.0)
    figure = Figure(figsize=(side, 0.9 * side), dpi=100, layout="constrained")
    axis = figure.subplots()
    mesh = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(mesh, ax=axis, shrink=0.8, label="share of the true class")
    small = 9 if classes <= MAX_CLASSES_WITH_NUMBERS else 6
    axis.set_xticks(range(classes), class_names, rotation=45, ha="right", fontsize=small)
    axis.set_yticks(range(classes), class_names, fontsize=small)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if classes <= MAX_CLASSES_WITH_NUMBERS:
        for row, column in np.ndindex(classes, classes):
            value = shares[row, column]
            color = "white" if value > 0.5 else "black"
            axis.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=color, fontsize=small)
    return rendered(figure)


def reliability_picture(found: metrics.Reliability) -> np.ndarray:
    """Returns a picture, uint8[H, W, 3]: accuracy by confidence beside what it should be, and the share of pixels."""
    figure = Figure(figsize=(5, 6), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(found.share) + 1)
    above.bar(edges[:-1], np.nan_to_num(found.accuracy), width=edges[1], align="edge", edgecolor="white")
    above.plot(found.confidence, found.confidence, "k.-", linewidth=1, label="accuracy equal to confidence")
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.legend(loc="upper left")
    below.bar(edges[:-1], np.nan_to_num(found.share), width=edges[1], align="edge", color="0.6", edgecolor="white")
    below.set_ylabel("share of pixels")
    below.set_xlabel("confidence of the most likely class")
    below.set_xlim(0, 1)
    return rendered(figure)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
