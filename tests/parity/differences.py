"""Measures of the difference between arrays; requires numpy only."""

from collections.abc import Mapping

import numpy as np

FLOOR, DOUBLE_FLOOR = 1e-2, 1e-3
"""Gradients of a parameter are compared relative to its largest, but at least to this fraction of the largest of all:
those of a bias before a normalization, for example, are 0 but for rounding."""


SAMPLES = 4096
"""The number of a parameter's gradients that files contain."""


def sampled(gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns gradients by name, SAMPLES of each at random and NaN elsewhere, which files hold in little space."""
    result = {}
    for name, value in gradients.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the reference's gradients of {name} are not finite")
        keep = np.random.default_rng(value.size).permutation(value.size)[:SAMPLES]
        result[name] = np.full(value.size, np.nan)
        result[name][keep] = value.ravel()[keep]
        result[name] = result[name].reshape(value.shape)
    return result


def difference(value: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference relative to the largest value."""
    return float(np.abs(value - reference).max() / max(np.abs(reference).max(), 1e-9))


def gradient_difference(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], floor: float = DOUBLE_FLOOR
) -> tuple[float, str]:
    """Returns the largest difference of a parameter's gradients where they are expected, and its path; see FLOOR.

    It is NaN if not the same parameters have gradients, or if a gradient that is expected is NaN.

    Args:
      found: by the path of the parameter.
      expected: by the path of the parameter; NaN where nothing is expected, see `sampled`.
      floor: the fraction of the largest gradient of all that differences are at least relative to.
    """
    if found.keys() != expected.keys():
        return float("nan"), ", ".join(sorted(found.keys() ^ expected.keys())[:4])
    given = {path: ~np.isnan(value) for path, value in expected.items()}
    largest = {path: float(np.abs(value[given[path]]).max()) for path, value in expected.items()}
    smallest = floor * max(largest.values())
    each = {
        path: float(np.abs(found[path] - value)[given[path]].max()) / max(largest[path], smallest)
        for path, value in expected.items()
    }
    worst = max(each, key=lambda path: np.inf if np.isnan(each[path]) else each[path])
    return each[worst], worst
