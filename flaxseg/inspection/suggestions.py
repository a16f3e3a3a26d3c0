"""Settings computed from the training split: class weights, and the mean and standard deviation of its images."""

import numpy as np

from flaxseg.data.class_weights import WEIGHTINGS
from flaxseg.data.statistics import Statistics
from flaxseg.inspection.findings import Setting


def suggest_class_weights(train: Statistics, *, add_loss: bool) -> list[Setting]:
    """Returns the class weights by each weighting scheme; nothing where a class without pixels would weigh 0.

    Args:
      train: the statistics of the training split; at least one pixel is valid.
      add_loss: whether to add a loss that accepts class weights, because no loss in use does.
    """
    if not train.occurrences.all():
        return []
    loss = {"cross_entropy": 1.0} if add_loss else {}
    return [
        Setting(
            f"class weights ({name.replace('_', ' ')})",
            loss | {"class_weights": _four_digits(weighting(train.counts[:, :-1]))},
        )
        for name, weighting in WEIGHTINGS.items()
    ]


def suggest_mean_and_std(train: Statistics) -> list[Setting]:
    """Returns the mean and standard deviation of each channel; nothing where numbers of channels differ."""
    mean, std = train.mean, train.std
    if mean is None or std is None:
        return []
    # Normalization would divide a constant channel by 0.
    arguments = {"mean": _four_digits(mean), "std": _four_digits(np.where(std > 0, std, 1.0))}
    return [Setting("mean and standard deviation of the training images", arguments)]


def _four_digits(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
