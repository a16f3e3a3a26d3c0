"""Writes the scores of an evaluation to files: JSON, and CSV with a row for each image."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg import metrics
from flaxseg.data.types import Source
from flaxseg.deploy.files import write_file
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics.ratios import ratio

_CLASS_SCORES = {"iou": metrics.iou, "dice": metrics.dice, "precision": metrics.precision, "recall": metrics.recall}


def write_scores(path: Path, scores: EvalMetrics, class_names: Sequence[str], about: dict[str, Any]) -> None:
    """Writes every score, those of each class, and the confusion matrix as JSON; an undefined score is null.

    Args:
      path: the file.
      scores: of an evaluation.
      class_names: one name per class.
      about: further entries, such as the name of the network.

    Raises:
      DataError: the file cannot be written.
    """
    counts = np.asarray(scores.confusion.to_host().counts)
    columns = {name: score(counts).tolist() for name, score in _CLASS_SCORES.items()}
    by_class = {
        name: {score: _defined(values[index]) for score, values in columns.items()}
        | {"pixels": int(counts[index].sum())}
        for index, name in enumerate(class_names)
    }
    content = {
        **about,
        "scores": {name: _defined(value) for name, value in scores.compute().items()},
        "classes": by_class,
        "confusion": counts.tolist(),
    }
    write_file(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_image_scores(path: Path, scores: metrics.PerImage, class_names: Sequence[str], source: Source) -> None:
    """Writes a CSV with a row for each image: its id, mean IoU and Dice, and the IoU of each class.

    Args:
      path: the file.
      scores: of an evaluation of `source`, in its order; padding at the end is left out.
      class_names: one name per class.
      source: the examples.

    Raises:
      DataError: the file cannot be written.
    """
    rows = scores.rows[: len(source)]
    intersection, label, prediction = (rows[..., index] for index in range(3))
    by_class = ratio(intersection, label + prediction - intersection)
    means = zip(scores.image_iou(), scores.image_dice(), by_class, strict=False)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "miou", "mean_dice", *(f"iou {name}" for name in class_names)])
    for index, (iou, dice, classes) in zip(range(len(source)), means, strict=False):
        values = [iou, dice, *classes]
        writer.writerow([source.example_id(index), *("" if math.isnan(value) else f"{value:.6f}" for value in values)])
    write_file(path, text.getvalue().encode())


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
