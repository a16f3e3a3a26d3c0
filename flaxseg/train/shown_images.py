"""The images of an evaluation that are shown with their predictions: always the same few, and the worst."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flaxseg.data.resize import scaled_size
from flaxseg.data.types import Batch, Example, bucket_size
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import PerImage
from flaxseg.ops.resize import are_rows_last
from flaxseg.report.panels import Predicted
from flaxseg.train.build import Run
from flaxseg.train.compile import Compiled


class Shown(NamedTuple):
    """An example of the evaluation set with its prediction."""

    number: int
    """Its index in the evaluation set."""
    example: Example
    canvas: jax.Array
    """uint8[h, w] on the devices; the prediction, at the size of the label, is in its upper left."""


def fixed_indices(count: int, length: int) -> list[int]:
    """Returns the indices of at most `count` examples at equal distances in a dataset, always the same ones."""
    count = min(count, length)
    return [index * length // count for index in range(count)]


def worst_indices(scores: PerImage, count: int, length: int) -> list[int]:
    """Returns the indices of the `count` images with the lowest mean IoU over their classes, the worst first.

    Of equal images the first in the dataset comes first. Images without valid pixels are excluded.

    Args:
      scores: the scores of all images, in the order of the dataset, followed by padding.
      count: number of images.
      length: number of images in the dataset.
    """
    iou = scores.image_iou()[:length]
    return [int(index) for index in np.argsort(iou, kind="stable")[:count] if not np.isnan(iou[index])]


def predictions(
    run: Run, compiled: Compiled, number: int, batch: Batch, logits: jax.Array, indices: Collection[int]
) -> Iterator[Shown]:
    """Yields those of some examples that are in a batch, with their predictions; does not wait for the devices.

    Args:
      run: the run.
      compiled: its jitted functions.
      number: the number of the batch in the evaluation.
      batch: the batch on the host, of which every process has its part.
      logits: the logits of the whole batch.
      indices: the examples, by their indices in the evaluation set.
    """
    plan = run.loop.evaluation
    # The rounding of the scores; without native sizes, scores are not those of what is shown.
    rows_last = are_rows_last(logits.shape, batch["label"].shape[1:3]) if "size" in batch else None
    for row in range(len(logits)):
        index = number * len(logits) + row
        if index not in indices:
            continue
        example = run.data.to_show.source[index]
        size = example["label"].shape
        extent = size if plan.scale is None else scaled_size(size, plan.scale)
        canvas = (bucket_size(size[0]), bucket_size(size[1]))
        shown = compiled.label(
            logits,
            np.int32(row),
            np.array(size, np.int32),
            np.array(extent, np.int32),
            canvas=canvas,
            rows_last=rows_last,
        )
        yield Shown(index, example, shown)


def as_predicted(shown: Sequence[Shown], total: EvalMetrics) -> list[Predicted]:
    """Returns examples with their predictions on the host, with their names and, if it is known, their IoU as titles.

    Args:
      shown: the examples.
      total: the scores of the evaluation.
    """
    scores = total.others.get("per_image")
    iou = scores.image_iou() if isinstance(scores, PerImage) else None
    found = []
    for number, example, canvas in shown:
        height, width = example["label"].shape
        title = example["id"] if iou is None else f"{example['id']}: IoU {iou[number]:.3f}"
        found.append(Predicted(example["image"], example["label"], np.asarray(canvas)[:height, :width], title))
    return found
