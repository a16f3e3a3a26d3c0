"""Scores that are read from a confusion matrix: int64[K, K], true classes in rows, predicted ones in columns.

What is undefined is NaN, and averages leave it out. Macro averages weigh classes alike, weighted ones by their pixels
in the labels, and micro ones pool the pixels of all classes. As each pixel has one class and one prediction, micro
averages of Dice, precision and recall, and weighted recall, are all the pixel accuracy.
"""

from collections.abc import Callable, Sequence

import numpy as np

from flaxseg.metrics.ratios import defined_mean, ratio


def iou(counts: np.ndarray) -> np.ndarray:
    """Returns each class's intersection over union, float64[K]; NaN where label and prediction both lack it."""
    return ratio(np.diagonal(counts), counts.sum(0) + counts.sum(1) - np.diagonal(counts))


def dice(counts: np.ndarray) -> np.ndarray:
    """Returns each class's Dice coefficient, float64[K]; NaN where label and prediction both lack it.

    It is twice the intersection over the sum of both areas, which is the F1 score of precision and recall.
    """
    return ratio(2 * np.diagonal(counts), counts.sum(0) + counts.sum(1))


def precision(counts: np.ndarray) -> np.ndarray:
    """Returns the share of the pixels predicted as each class that are right, float64[K]; NaN where none were."""
    return ratio(np.diagonal(counts), counts.sum(0))


def recall(counts: np.ndarray) -> np.ndarray:
    """Returns the share of each class's pixels that were found, float64[K]; NaN for a class without any.

    The field also calls it the accuracy of a class.
    """
    return ratio(np.diagonal(counts), counts.sum(1))


def mean_iou(counts: np.ndarray) -> float:
    """Returns the mean of iou() over the classes that label or prediction has; NaN when there is no pixel."""
    return defined_mean(iou(counts))


def frequency_weighted_iou(counts: np.ndarray) -> float:
    """Returns the mean of iou() weighted by each class's pixels in the labels; NaN when there is no pixel."""
    return defined_mean(iou(counts), counts.sum(1))


def micro_iou(counts: np.ndarray) -> float:
    """Returns the sum of all classes' intersections over that of their unions; NaN when there is no pixel."""
    return float(ratio(np.trace(counts), 2 * counts.sum() - np.trace(counts)))


def mean_dice(counts: np.ndarray) -> float:
    """Returns the mean of dice() over the classes that label or prediction has; NaN when there is no pixel."""
    return defined_mean(dice(counts))


def weighted_dice(counts: np.ndarray) -> float:
    """Returns the mean of dice() weighted by each class's pixels in the labels; NaN when there is no pixel."""
    return defined_mean(dice(counts), counts.sum(1))


def mean_precision(counts: np.ndarray) -> float:
    """Returns the mean of precision() over the classes that were predicted; NaN when there is no pixel."""
    return defined_mean(precision(counts))


def weighted_precision(counts: np.ndarray) -> float:
    """Returns the mean of precision() over the classes that were predicted, weighted by their pixels in the labels.

    NaN when none of the predicted classes is in the labels.
    """
    return defined_mean(precision(counts), counts.sum(1))


def mean_recall(counts: np.ndarray) -> float:
    """Returns the mean of recall() over the classes that the labels have; NaN when there is no pixel.

    It is also known as mean accuracy, mAcc, and balanced accuracy.
    """
    return defined_mean(recall(counts))


def pixel_accuracy(counts: np.ndarray) -> float:
    """Returns the share of all pixels that are right; NaN when there is no pixel."""
    return float(ratio(np.trace(counts), counts.sum()))


def cohen_kappa(counts: np.ndarray) -> float:
    r"""Returns how far agreement goes beyond that of chance, at most 1.

    .. math:: \kappa = \frac{p_o - p_e}{1 - p_e}, \quad p_e = \sum_k r_k c_k / n^2

    with the agreement :math:`p_o`, and each class's :math:`r_k` pixels in the labels and :math:`c_k` in the
    predictions of :math:`n`. NaN when labels and predictions are all of one class, or there is no pixel.

    Cohen 1960, https://doi.org/10.1177/001316446002000104
    """
    # Python's integers: products of two sums of a large dataset do not fit 64 bits.
    rows, columns = counts.sum(1).tolist(), counts.sum(0).tolist()
    pixels, agreed = sum(rows), int(np.trace(counts))
    by_chance = sum(row * column for row, column in zip(rows, columns, strict=True))
    below = pixels**2 - by_chance
    return (pixels * agreed - by_chance) / below if below else float("nan")


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
"""Scores of a whole confusion matrix, by the name that a configuration and TensorBoard use."""


def per_class_table(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a text table: each class's IoU, Dice, precision, recall and share of pixels, and the means below.

    Dice is the F1 score, and recall the accuracy of a class.
    """
    share = ratio(counts.sum(1), counts.sum())
    columns = np.stack([iou(counts), dice(counts), precision(counts), recall(counts), share], axis=1)
    width = max(len("pixel accuracy"), *map(len, class_names))
    lines = [f"{'class':<{width}}  {'IoU':>7}  {'Dice':>7}  {'precision':>9}  {'recall':>7}  {'share':>7}"]
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
