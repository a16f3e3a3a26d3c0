"""Scores computed from a confusion matrix: int64[K, K], true classes in rows and predicted classes in columns.

Undefined scores are NaN and excluded from averages. Macro averages weight all classes equally, weighted averages by
their number of pixels in the labels, and micro averages pool the pixels of all classes. Since each pixel has one class
and one prediction, the micro averages of Dice, precision and recall, and weighted recall, all equal pixel accuracy.
"""

from collections.abc import Callable, Sequence

import numpy as np

from flaxseg.metrics.ratios import defined_mean, ratio


def iou(counts: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each class, float64[K]; NaN if label and prediction both lack it."""
    return ratio(np.diagonal(counts), counts.sum(0) + counts.sum(1) - np.diagonal(counts))


def dice(counts: np.ndarray) -> np.ndarray:
    """Returns the Dice coefficient of each class, float64[K]; NaN if label and prediction both lack it.

    It is twice the intersection divided by the sum of both areas, and equals the F1 score of precision and recall.
    """
    return ratio(2 * np.diagonal(counts), counts.sum(0) + counts.sum(1))


def precision(counts: np.ndarray) -> np.ndarray:
    """Returns the fraction of pixels predicted as each class that are correct, float64[K]; NaN if there are none."""
    return ratio(np.diagonal(counts), counts.sum(0))


def recall(counts: np.ndarray) -> np.ndarray:
    """Returns the fraction of pixels of each class that are predicted as such, float64[K]; NaN if there are none.

    It is also known as class accuracy.
    """
    return ratio(np.diagonal(counts), counts.sum(1))


def mean_iou(counts: np.ndarray) -> float:
    """Returns the mean of `iou` over the classes present in labels or predictions; NaN without pixels."""
    return defined_mean(iou(counts))


def frequency_weighted_iou(counts: np.ndarray) -> float:
    """Returns the mean of `iou`, weighted by the number of pixels of each class in the labels; NaN without pixels."""
    return defined_mean(iou(counts), counts.sum(1))


def micro_iou(counts: np.ndarray) -> float:
    """Returns the sum of all intersections divided by the sum of all unions; NaN without pixels."""
    return float(ratio(np.trace(counts), 2 * counts.sum() - np.trace(counts)))


def mean_dice(counts: np.ndarray) -> float:
    """Returns the mean of `dice` over the classes present in labels or predictions; NaN without pixels."""
    return defined_mean(dice(counts))


def weighted_dice(counts: np.ndarray) -> float:
    """Returns the mean of `dice`, weighted by the number of pixels of each class in the labels; NaN without pixels."""
    return defined_mean(dice(counts), counts.sum(1))


def mean_precision(counts: np.ndarray) -> float:
    """Returns the mean of `precision` over the predicted classes; NaN without pixels."""
    return defined_mean(precision(counts))


def weighted_precision(counts: np.ndarray) -> float:
    """Returns the mean of `precision` over the predicted classes, weighted by their number of pixels in the labels.

    NaN if none of the predicted classes is present in the labels.
    """
    return defined_mean(precision(counts), counts.sum(1))


def mean_recall(counts: np.ndarray) -> float:
    """Returns the mean of `recall` over the classes present in the labels; NaN without pixels.

    It is also known as mean accuracy (mAcc) and balanced accuracy.
    """
    return defined_mean(recall(counts))


def pixel_accuracy(counts: np.ndarray) -> float:
    """Returns the fraction of pixels whose prediction is correct; NaN without pixels."""
    return float(ratio(np.trace(counts), counts.sum()))


def cohen_kappa(counts: np.ndarray) -> float:
    r"""Returns Cohen's kappa, the agreement beyond chance, at most 1.

    .. math:: \kappa = \frac{p_o - p_e}{1 - p_e}, \quad p_e = \sum_k r_k c_k / n^2

    with the pixel accuracy :math:`p_o` and, for each class, :math:`r_k` of the :math:`n` pixels in the labels and
    :math:`c_k` in the predictions. NaN if all labels and predictions are the same class, or without pixels.

    Cohen 1960, https://doi.org/10.1177/001316446002000104
    """
    # Python integers, because products of two sums of a large dataset do not fit in 64 bits.
    rows, columns = counts.sum(1).tolist(), counts.sum(0).tolist()
    pixels, correct = sum(rows), int(np.trace(counts))
    by_chance = sum(row * column for row, column in zip(rows, columns, strict=True))
    denominator = pixels**2 - by_chance
    return (pixels * correct - by_chance) / denominator if denominator else float("nan")


SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "miou": mean_iou,
    "fwiou": frequency_weighted_iou,
    "micro_iou": micro_iou,
    "mean_dice": mean_dice,
    "weighted_dice": weighted_dice,
    "mean_precision": mean_precision,
    "weighted_precision": weighted_precision,
    "mean_recall": mean_recall,
    "pixel_accuracy": pixel_accuracy,
    "kappa": cohen_kappa,
}
"""Scores of a confusion matrix, by name."""

CLASS_IOU = "iou/"
"""What the name of the score of a single class, such as `iou/road`, begins with."""


def per_class_table(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a text table of each class's IoU, Dice, precision, recall and fraction of pixels, followed by averages.

    Dice equals the F1 score, and recall the class accuracy.
    """
    fraction = ratio(counts.sum(1), counts.sum())
    columns = np.stack([iou(counts), dice(counts), precision(counts), recall(counts), fraction], axis=1)
    width = max(len("pixel accuracy"), *map(len, class_names))
    lines = [f"{'class':<{width}}  {'IoU':>7}  {'Dice':>7}  {'precision':>9}  {'recall':>7}  {'pixels':>7}"]
    lines += [
        f"{name:<{width}}  {row[0]:7.4f}  {row[1]:7.4f}  {row[2]:9.4f}  {row[3]:7.4f}  {row[4]:7.4f}"
        for name, row in zip(class_names, columns, strict=True)
    ]
    lines += [
        f"{'mIoU':<{width}}  {mean_iou(counts):7.4f}",
        f"{'mean Dice':<{width}}  {mean_dice(counts):7.4f}",
        f"{'pixel accuracy':<{width}}  {pixel_accuracy(counts):7.4f}",
    ]
    return "\n".join(lines)
