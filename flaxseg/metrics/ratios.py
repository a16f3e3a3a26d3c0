"""Ratios and means that exclude undefined values, on the host in float64."""

import math

import numpy as np
from numpy.typing import ArrayLike


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Returns float64[...], `numerator / denominator`; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def defined_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Returns the mean of the values that are not NaN; NaN if all are.

    The sum is exact until it is rounded at the end, so that the order of the values does not matter.

    Args:
      values: float[...].
      weights: of the same shape, at least 0; None for equal weights.
    """
    values = np.asarray(values, np.float64).reshape(-1)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    defined = ~np.isnan(values)
    total = math.fsum(weights[defined])
    return math.fsum(values[defined] * weights[defined]) / total if total > 0 else math.nan
