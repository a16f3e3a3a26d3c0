"""Class weights that counter class imbalance, computed from the number of pixels of each class in each image."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.data.statistics import class_counts
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.errors import DataError, check_choice

_BAR_LENGTH = 24


def log_weights(counts: np.ndarray, *, offset: float = 1.02) -> np.ndarray:
    """Returns 1 / ln(offset + fraction of the pixels): 1.4 for a class that covers everything, 50 for the rarest.

    Args:
      counts: integer[N, K], the number of pixels of each class in each image, without ignored pixels.
      offset: above 1; the closer to 1, the larger the weights of rare classes.

    Returns:
      float64[K]; 0 for a class that does not occur.

    ENet: Paszke et al. 2016, https://arxiv.org/abs/1606.02147, section 5.2
    """
    pixels = counts.sum(0, dtype=np.float64)
    return np.where(pixels > 0, 1 / np.log(offset + pixels / max(pixels.sum(), 1.0)), 0.0)


def median_frequency_weights(counts: np.ndarray) -> np.ndarray:
    """Returns the median class frequency divided by the frequency of each class.

    The frequency of a class is its fraction of the pixels of those images in which it occurs, so that a class that
    occurs in few images is not mistaken for a small one.

    Args:
      counts: integer[N, K], the number of pixels of each class in each image, without ignored pixels.

    Returns:
      float64[K]; 0 for a class that does not occur, which the median excludes.

    Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2
    """
    pixels = counts.sum(0, dtype=np.float64)
    pixels_of_images = ((counts > 0) * counts.sum(1, keepdims=True, dtype=np.float64)).sum(0)
    occurs = pixels > 0
    if not occurs.any():
        return np.zeros(len(pixels))
    frequency = pixels[occurs] / pixels_of_images[occurs]
    weights = np.zeros(len(pixels))
    weights[occurs] = np.median(frequency) / frequency
    return weights


def effective_number_weights(counts: np.ndarray, *, prototypes: float | None = None) -> np.ndarray:
    """Returns the inverse of the effective number of pixels of each class, (1 - beta^n) / (1 - beta), with mean 1.

    The effective number grows ever more slowly with n, because further pixels resemble the earlier ones.

    Args:
      counts: integer[N, K], the number of pixels of each class in each image, without ignored pixels.
      prototypes: the number of distinct pixels, above 1; beta is 1 - 1 / prototypes. None uses the total number of
        pixels, which weights a class with a small fraction of them almost inversely to that fraction.

    Returns:
      float64[K]; 0 for a class that does not occur, which the mean excludes.

    Cui et al. 2019, https://arxiv.org/abs/1901.05555, equation 2
    """
    pixels = counts.sum(0, dtype=np.float64)
    occurs = pixels > 0
    prototypes = max(float(pixels.sum()), 2.0) if prototypes is None else prototypes
    # Written as a power, beta^n would lose all digits, because beta is so close to 1.
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


def compute_class_weights(weighting: str, dataset: SegmentationDataset, *, num_threads: int) -> tuple[float, ...]:
    """Reads every label of a dataset and returns a weight for each class.

    Args:
      weighting: a name of WEIGHTINGS.
      dataset: the training set.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.

    Raises:
      ArgumentError: an unknown weighting.
      DataError: no pixel belongs to a class, or an example cannot be read.
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    counts = class_counts(dataset, num_threads=num_threads)[:, : dataset.num_classes]
    if not counts.any():
        raise DataError(
            f"class weights ({weighting!r}): no image contains a pixel of any class, all pixels are ignored"
        )
    return tuple(WEIGHTINGS[weighting](counts).tolist())


def resolve_class_weights(
    setting: str | Sequence[float], dataset: SegmentationDataset, *, stored: Path | None, num_threads: int
) -> tuple[float, ...] | None:
    """Returns the class weights that a setting stands for, or None for no weights.

    Args:
      setting: a name of WEIGHTINGS, one weight per class, or "none".
      dataset: the training set, read only if there are no stored weights.
      stored: a file of `write_class_weights`; if it exists, a name of WEIGHTINGS stands for the weights in it, so that
        a resumed run keeps its weights.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.

    Raises:
      ArgumentError: an unknown weighting.
      DataError: no pixel belongs to a class, an example cannot be read, or the stored weights are for other classes.
    """
    if not isinstance(setting, str):
        return tuple(map(float, setting))
    if setting == "none":
        return None
    if stored is not None and stored.is_file():
        return read_class_weights(stored, dataset.class_names)
    return compute_class_weights(setting, dataset, num_threads=num_threads)


def write_class_weights(path: Path, weights: Sequence[float], class_names: Sequence[str]) -> None:
    """Writes the weights to a JSON file as {class name: weight}."""
    text = json.dumps(dict(zip(class_names, weights, strict=True)), indent=2, ensure_ascii=False)
    # Replaced at once, so that an interrupted process never leaves an incomplete file.
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def read_class_weights(path: Path, class_names: Sequence[str]) -> tuple[float, ...]:
    """Returns the weights in a file of `write_class_weights`, in the order of `class_names`.

    Raises:
      DataError: the file does not contain a number for each class.
    """
    stored: Any = None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return tuple(float(stored[name]) for name in class_names)
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{path}: does not contain a number for each of the classes {', '.join(class_names)}; remove the file to "
            "have the weights computed again"
        ) from None


def format_class_weights(
    weights: Sequence[float], class_names: Sequence[str], palette: Sequence[Color], *, colors: bool
) -> str:
    """Returns a text table of the classes and their weights, with bars of proportional length.

    Args:
      weights: one weight per class.
      class_names: one name per class.
      palette: one color per class, (red, green, blue) in 0..255.
      colors: draw the bars in the colors of the classes, by 24-bit escape sequences for terminals (ISO 6429).
    """
    width, largest = max(len("class"), *map(len, class_names)), max(weights)
    lines = [f"{'class':<{width}}  {'weight':>9}"]
    for name, weight, (red, green, blue) in zip(class_names, weights, palette, strict=True):
        bar = "█" * max(round(_BAR_LENGTH * weight / largest), int(weight > 0))
        shown = f"\x1b[38;2;{red};{green};{blue}m{bar}\x1b[0m" if colors else bar
        lines.append(f"{name:<{width}}  {weight:9.4g}  {shown}".rstrip())
    return "\n".join(lines)
