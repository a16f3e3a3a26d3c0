"""The order of the training examples: element n is a function of the seed and n alone, with or without weights."""

import functools
import os

import numpy as np

from flaxseg.data.decode.limits import check_regular
from flaxseg.data.statistics import class_counts
from flaxseg.data.threads import read_in_order
from flaxseg.data.types import SegmentationDataset, Source
from flaxseg.errors import DataError

_MAX_LISTED = 10


class ExampleOrder:
    """The endless sequence of training examples, with random access to any slice of it.

    Without weights, an epoch is a fresh permutation of all `count` examples. With weights, an epoch also has `count`
    elements, and an example occurs `count` times its fraction of the total weight, rounded up or down at random
    (systematic sampling: Madow, "On the theory of systematic sampling II", 1949), in an order shuffled for each epoch.

    Args:
      count: the number of examples.
      seed: seed of the order, at least 0.
      weights: float[count], at least 0 and not all 0; None draws every example once per epoch.
    """

    def __init__(self, count: int, *, seed: int, weights: np.ndarray | None = None) -> None:
        self._count = count
        self._seed = seed
        self._cumulative = None if weights is None else np.cumsum(weights / weights.sum())
        # Batches that are read at the same time belong to one or two epochs, or to a few more for a small dataset.
        self._epoch = functools.lru_cache(maxsize=8)(self._draw_epoch)

    def __getitem__(self, positions: slice) -> np.ndarray:
        """Returns the indices of the examples at positions `start` (inclusive) to `stop` (exclusive), int64."""
        epochs = range(positions.start // self._count, (positions.stop - 1) // self._count + 1)
        begin = positions.start - epochs.start * self._count
        length = positions.stop - positions.start
        return np.concatenate([self._epoch(epoch) for epoch in epochs])[begin : begin + length]

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        # The raw output of this generator is the same in every version of NumPy.
        numbers = np.random.Philox(key=np.array([self._seed, epoch], np.uint64)).random_raw(self._count + 1)
        order = np.argsort(numbers[:-1], kind="stable")
        if self._cumulative is None:
            return order
        offset = numbers[-1] / 2.0**64
        return np.searchsorted(self._cumulative, (order + offset) / self._count * self._cumulative[-1], side="right")


def sampling_weights(sampling: str, dataset: SegmentationDataset, *, num_threads: int = -1) -> np.ndarray | None:
    """Returns the sampling weight of each example of a dataset, float64[N]; None draws every example once per epoch.

    Args:
      sampling: "uniform", "class_balanced" (see `class_balanced_weights`; reads every label once), or the path of a
        file (see `read_weights`).
      dataset: the training set.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.

    Raises:
      DataError: an example or the file cannot be read, or no example contains any class.
    """
    if sampling == "uniform":
        return None
    if sampling == "class_balanced":
        return class_balanced_weights(class_counts(dataset, num_threads=num_threads)[:, : dataset.num_classes])
    return read_weights(sampling, dataset.source)


def class_balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Returns weights that sample all classes equally often: a random class, then a random example that contains it.

    Class-aware sampling of Shen et al. 2016, "Relay backpropagation", https://arxiv.org/abs/1512.05830.

    Args:
      counts: integer[N, K], the number of pixels of each class in each example.

    Returns:
      float64[N] with sum 1; 0 for an example without valid pixels.

    Raises:
      DataError: no example contains any class.
    """
    has_class = counts > 0
    examples = has_class.sum(0)
    if not examples.any():
        raise DataError("class-balanced sampling: no image contains a pixel of any class, all pixels are ignored")
    return (has_class[:, examples > 0] / examples[examples > 0]).sum(1) / (examples > 0).sum()


def read_weights(path: str, source: Source) -> np.ndarray:
    """Returns the sampling weight of each example, read from a text file with an id and a number on each line.

    Args:
      path: the file. Blank lines and lines that start with # are skipped; an id may contain spaces; ids that are not
        in `source` are allowed.
      source: the examples to find the weights of, by their ids.

    Returns:
      float64[N].

    Raises:
      DataError: the file cannot be read, a line is not an id and a number of at least 0, an example has no line, or
        all weights are 0.
    """
    weight_of = _parse_weights(path)
    ids = list(read_in_order(range(len(source)), source.example_id, num_threads=-1, description="ids"))
    missing = [example_id for example_id in ids if example_id not in weight_of]
    if missing:
        shown = ", ".join(missing[:_MAX_LISTED]) + (" ..." if len(missing) > _MAX_LISTED else "")
        raise DataError(
            f"{path}: has no weight for {len(missing)} of {len(ids)} examples ({shown}); write a line `ID WEIGHT` for "
            "each; the weight 0 excludes an example"
        )
    weights = np.array([weight_of[example_id] for example_id in ids])
    if not weights.any():
        raise DataError(f"{path}: all weights are 0, so no example is left to train on; give one a weight above 0")
    return weights


def _parse_weights(path: str) -> dict[str, float]:
    path = os.path.expanduser(path)
    try:
        check_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"sampling weights: the file {path} cannot be read ({error}); give 'uniform', 'class_balanced', or a text "
            "file with an id and a weight on each line"
        ) from None
    weight_of = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        example_id, text = [*line.rsplit(None, 1), ""][:2]
        try:
            weight_of[example_id.strip()] = weight = float(text)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf"):
            raise DataError(f"{path}, line {number}: {line!r} is not an id, a space and a number of at least 0")
    return weight_of
