"""Weights against unequal shares of the classes, from how many pixels of each class each picture has."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.data.statistics import class_counts
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError

CLASS_WEIGHTS_FILE = "class_weights.json"


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
    "median_frequency": median_frequency_weights,
    "effective_number": effective_number_weights,
}
"""Every weighting by name: integer[N, K] -> float64[K]."""


def class_weights_of(
    setting: str | Sequence[float], dataset: SegmentationDataset, *, workdir: Path | None, num_threads: int
) -> tuple[float, ...] | None:
    """Returns the weight of each class that a run has.

    Args:
      setting: a name of WEIGHTINGS, weights, or "none".
      dataset: the training set. It is counted once: where the working directory holds weights, those are returned,
        so that a run that goes on has the weights that it began with.
      workdir: of the run; None: without one.
      num_threads: threads that read.

    Raises:
      DataError: no pixel of the training set has a class, or an example cannot be read.
    """
    if not isinstance(setting, str):
        return tuple(map(float, setting))
    if setting == "none":
        return None
    stored = None if workdir is None else workdir / CLASS_WEIGHTS_FILE
    if stored is not None and stored.is_file():
        return _read(stored, dataset.class_names)
    counts = class_counts(dataset, num_threads=num_threads)[:, : dataset.num_classes]
    if not counts.any():
        raise DataError(f"config.class_weights = {setting!r}: no picture has a pixel of any class, all are ignored")
    return tuple(WEIGHTINGS[setting](counts).tolist())


def store(weights: Sequence[float], class_names: Sequence[str], workdir: Path) -> None:
    """Writes weights into a run's working directory, as {class: weight}."""
    text = json.dumps(dict(zip(class_names, weights, strict=True)), indent=2, ensure_ascii=False)
    # In one go: a run that is killed here never leaves half a file.
    whole = workdir / f"{CLASS_WEIGHTS_FILE}.new"
    whole.write_text(text + "\n", encoding="utf-8")
    whole.replace(workdir / CLASS_WEIGHTS_FILE)


def _read(path: Path, class_names: Sequence[str]) -> tuple[float, ...]:
    found: Any = None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(float(found[name]) for name in class_names)
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{path}: does not hold a number for each of the classes {', '.join(class_names)}; "
            "give another --workdir, or remove this file to have them counted again"
        ) from None


def table(
    weights: Sequence[float], class_names: Sequence[str], palette: Sequence[tuple[int, int, int]], *, colors: bool
) -> str:
    """Returns a text table of classes and their weights, with bars as long as the weights.

    Args:
      weights: one for each class.
      class_names: likewise.
      palette: likewise, (red, green, blue) of 0..255.
      colors: show the bars in the classes' colors, as terminals understand them (ISO 6429, 24 bits).
    """
    width, largest = max(len("class"), *map(len, class_names)), max(weights)
    lines = [f"{'class':<{width}}  {'weight':>9}"]
    for name, weight, (red, green, blue) in zip(class_names, weights, palette, strict=True):
        bar = "█" * max(round(24 * weight / largest), int(weight > 0))
        shown = f"\x1b[38;2;{red};{green};{blue}m{bar}\x1b[0m" if colors else bar
        lines.append(f"{name:<{width}}  {weight:9.4g}  {shown}".rstrip())
    return "\n".join(lines)
