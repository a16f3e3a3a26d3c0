"""Histograms of arrays for TensorBoard's Histograms and Distributions tabs."""

from collections.abc import Mapping

import numpy as np

from flaxseg.report.event_files import IMPORTS
from flaxseg.report.event_writer import Summary

HISTOGRAMS = ("parameters", "gradients")
"""What histograms can be written of."""

_BUCKETS = 30


def histogram_summaries(arrays: Mapping[str, np.ndarray]) -> dict[str, Summary]:
    """Returns the histograms of arrays by their tags; arrays without a finite value have none."""
    with IMPORTS:
        from tensorboard.plugins.histogram import metadata

    kind = metadata.create_summary_metadata(display_name=None, description=None)
    tables = {name: histogram(array) for name, array in arrays.items()}
    return {name: (table, kind) for name, table in tables.items() if len(table)}


def histogram(array: np.ndarray) -> np.ndarray:
    """Returns the histogram of the finite values of an array, in 30 equal buckets from the lowest to the highest.

    Args:
      array: any shape; equal values are in one bucket without a width.

    Returns:
      float64[N, 3]: the left edge, the right edge and the number of values of each bucket.
    """
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() == values.max():
        return np.array([(value, value, values.size) for value in values[:1]]).reshape(-1, 3)
    counts, edges = np.histogram(values, _BUCKETS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
