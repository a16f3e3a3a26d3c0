"""Ratios and means that leave out what is undefined, on the host in float64."""

import math

import numpy as np
from numpy.typing import ArrayLike


def ratio(above: ArrayLike, below: ArrayLike) -> np.ndarray:
    """Returns float64[...], `above / below`; NaN where `below` is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def defined_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Returns the mean of the values that are not NaN; NaN when there is none.

    The sum is rounded once, at its end, so that the order of the values makes no difference.

    Args:
      values: float[...].
      weights: of the same shape, at least 0; None: all 1.
    """
    values = np.asarray(values, np.float64).reshape(-1)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    defined = ~np.isnan(values)
    total = math.fsum(weights[defined])
    return math.fsum(values[defined] * weights[defined]) / total if total > 0 else math.nan
