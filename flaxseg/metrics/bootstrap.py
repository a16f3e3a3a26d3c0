"""Confidence intervals of scores, from images that are drawn with replacement."""

import math
from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
"""Number of bootstrap resamples of the images."""

MAX_CELLS = 2**22
"""Number of elements of the table of resamples by images that are in memory at once."""


def percentile_intervals(
    rows: np.ndarray, statistics: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:  # fmt: skip
    """Returns the 95 % bootstrap intervals of statistics of a dataset, by the percentile method.

    As many images as there are are drawn with replacement, 1,000 times, and the interval lies between the 2.5th and the
    97.5th percentile of a statistic over these resamples. It describes how much a score would vary with other images of
    the same kind, not how much it would vary with another training. Counts are added up exactly. The seed is fixed, so
    that the same counts in the same order have the same intervals.

    Efron 1979, https://doi.org/10.1214/aos/1176344552, and Efron & Tibshirani 1993, section 13.3,
    https://doi.org/10.1201/9780429246593

    Args:
      rows: int64[N, ...], the counts of each image, N at least 1; their sums must be below 2**53.
      statistics: (indices int64[R, N] of the images drawn in R resamples, sums float64[R, ...] of their counts) ->
        float64[R, S], which may have NaN.

    Returns:
      float64[2, S]: the lower and upper ends. Resamples where a statistic is NaN are excluded from its interval, which
      is NaN if all are.
    """
    images = len(rows)
    rng = np.random.default_rng(0)
    # Sums of integers below 2**53 are exact in float64, in whatever order a matrix product adds them.
    flat = rows.reshape(images, -1).astype(np.float64)
    found = []
    for start in range(0, RESAMPLES, step := max(MAX_CELLS // images, 1)):
        draws = min(step, RESAMPLES - start)
        drawn = rng.integers(images, size=(draws, images))
        cells = (drawn + images * np.arange(draws)[:, None]).reshape(-1)
        counts = np.bincount(cells, minlength=draws * images).reshape(draws, images)
        found.append(statistics(drawn, (counts @ flat).reshape(draws, *rows.shape[1:])))
    return _percentiles(np.concatenate(found))


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows that are not all zero, in an order that depends on their values only.

    Intervals of rows in this order do not depend on the order of the images.

    Args:
      rows: int64[N, ...].
    """
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    flat = flat[flat.any(1)]
    return flat[np.lexsort(flat.T[::-1])].reshape(-1, *rows.shape[1:])


def _percentiles(values: np.ndarray) -> np.ndarray:
    bounds = np.full((2, values.shape[1]), np.nan)
    defined = ~np.isnan(values)
    everywhere, somewhere = defined.all(0), defined.any(0)
    bounds[:, everywhere] = np.percentile(values[:, everywhere], (2.5, 97.5), axis=0)
    for column in np.flatnonzero(somewhere & ~everywhere):
        bounds[:, column] = np.percentile(values[defined[:, column], column], (2.5, 97.5))
    return bounds
