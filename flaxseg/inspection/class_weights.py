"""Weights against unequal shares of the classes, from how many pixels of each class each picture has."""

from collections.abc import Callable

import numpy as np


def log_weights(counts: np.ndarray, *, offset: float = 1.02) -> np.ndarray:
    """Returns 1 / ln(offset + share of the pixels): 1.4 for a class that covers everything, 50 for the rarest.

    Args:
      counts: integer[N, K], the pixels of each class in each picture, without ignored ones.
      offset: above 1; the closer to 1, the larger the weight of rare classes.

    Returns:
      float64[K]; 0 for a class that never occurs.

    ENet: Paszke et al. 2016, https://arxiv.org/abs/1606.02147, section 5.2
    """
    pixels = counts.sum(0, dtype=np.float64)
    return np.where(pixels > 0, 1 / np.log(offset + pixels / max(pixels.sum(), 1.0)), 0.0)


def median_frequency_weights(counts: np.ndarray) -> np.ndarray:
    """Returns the median of the classes' frequencies over the frequency of each.

    A class's frequency is its share of the pixels of those pictures in which it occurs, so that a class of few
    pictures is not taken for a small one.

    Args:
      counts: integer[N, K], the pixels of each class in each picture, without ignored ones.

    Returns:
      float64[K]; 0 for a class that never occurs, which does not count in the median either.

    Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2
    """
    pixels = counts.sum(0, dtype=np.float64)
    of_pictures = ((counts > 0) * counts.sum(1, keepdims=True, dtype=np.float64)).sum(0)
    occurs = pixels > 0
    if not occurs.any():
        return np.zeros(len(pixels))
    frequency = pixels[occurs] / of_pictures[occurs]
    weights = np.zeros(len(pixels))
    weights[occurs] = np.median(frequency) / frequency
    return weights


def effective_number_weights(counts: np.ndarray, *, prototypes: float | None = None) -> np.ndarray:
    """Returns the inverse of each class's effective number of pixels, (1 - beta^n) / (1 - beta), with mean 1.

    The more pixels a class has, the less a further one adds: it resembles one of those before.

    Args:
      counts: integer[N, K], the pixels of each class in each picture, without ignored ones.
      prototypes: how many pixels there are to tell apart, above 1; beta is 1 - 1 / prototypes. None: as many as were
        counted, so that classes with a small share of them weigh almost inversely to it.

    Returns:
      float64[K]; 0 for a class that never occurs, which does not count in the mean either.

    Cui et al. 2019, https://arxiv.org/abs/1901.05555, equation 2
    """
    pixels = counts.sum(0, dtype=np.float64)
    occurs = pixels > 0
    prototypes = max(float(pixels.sum()), 2.0) if prototypes is None else prototypes
    # Plainly written, beta^n loses all its digits where beta is as close to 1 as here.
    effective = -np.expm1(pixels[occurs] * np.log1p(-1 / prototypes)) * prototypes
    weights = np.zeros(len(pixels))
    weights[occurs] = 1 / effective
    return weights * occurs.sum() / max(weights.sum(), np.finfo(float).tiny)


WEIGHTINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": log_weights,
    "median frequency": median_frequency_weights,
    "effective number": effective_number_weights,
}
"""Every weighting by name: integer[N, K] -> float64[K]."""
