"""Which example comes when: element n is a function of the seed and n alone, however the examples are weighted."""

import functools
import os

import numpy as np

from flaxseg.data.threads import read_in_order
from flaxseg.data.types import Source, identity
from flaxseg.errors import DataError


class ExampleOrder:
    """The endless sequence of examples to train on, with random access to any stretch of it.

    An epoch is `count` examples and a fresh permutation of all of them. With weights an example comes in each epoch
    as often as its share of the weight times `count` says, rounded up or down at random (systematic sampling: Madow,
    "On the theory of systematic sampling II", 1949), again in an order of its own.

    Args:
      count: how many examples there are.
      seed: 0 or more.
      weights: float[count], at least 0 and not all 0; None: each alike.
    """

    def __init__(self, count: int, *, seed: int, weights: np.ndarray | None = None) -> None:
        self._count = count
        self._seed = seed
        self._ends = None if weights is None else np.cumsum(weights / weights.sum())
        # Batches that are read at once lie in one epoch or two, and those of a small dataset in a few more.
        self._epoch = functools.lru_cache(maxsize=8)(self._drawn)

    def __getitem__(self, stretch: slice) -> np.ndarray:
        """The examples from `stretch.start` on and before `stretch.stop`, int64."""
        epochs = range(stretch.start // self._count, (stretch.stop - 1) // self._count + 1)
        begin = stretch.start - epochs.start * self._count
        return np.concatenate([self._epoch(e) for e in epochs])[begin : begin + stretch.stop - stretch.start]

    def _drawn(self, epoch: int) -> np.ndarray:
        # Numbers that a key and a counter alone decide, the same with every version of numpy.
        numbers = np.random.Philox(key=np.array([self._seed, epoch], np.uint64)).random_raw(self._count + 1)
        order = np.argsort(numbers[:-1], kind="stable")
        if self._ends is None:
            return order
        offset = numbers[-1] / 2.0**64
        return np.searchsorted(self._ends, (order + offset) / self._count * self._ends[-1], side="right")


def class_balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Weights with which every class comes up alike: as if a class were drawn first, then an example that has it.

    Class-aware sampling of Shen et al. 2016, "Relay backpropagation", https://arxiv.org/abs/1512.05830.

    Args:
      counts: integer[N, K], pixels of each class in each example.

    Returns:
      float64[N] with the sum 1; 0 for an example without any class.

    Raises:
      DataError: no example has any class.
    """
    has_class = counts > 0
    examples = has_class.sum(0)
    if not examples.any():
        raise DataError("data.sampling = 'class_balanced': no picture has a pixel of any class, all are ignored")
    return (has_class[:, examples > 0] / examples[examples > 0]).sum(1) / (examples > 0).sum()


def read_weights(path: str, source: Source) -> np.ndarray:
    """The weight of each example, from a text file with an id and a number on each line.

    Args:
      path: blank lines and lines from # on are skipped; an id may contain blanks, and may be one of another split.
      source: the examples; their ids are read from them.

    Returns:
      float64[N].

    Raises:
      DataError: no such file, a line without an id and a number of at least 0, an example without a line, or
        weights that are all 0.
    """
    named = _named_weights(path)
    ids = list(read_in_order(range(len(source)), lambda i: identity(source, i), num_threads=-1, description="ids"))
    missing = [identity for identity in ids if identity not in named]
    if missing:
        shown = ", ".join(missing[:10]) + (" ..." if len(missing) > 10 else "")
        raise DataError(
            f"{path}: has no weight for {len(missing)} of {len(ids)} examples ({shown}); write a line `ID WEIGHT` for "
            "each; 0 leaves an example out"
        )
    weights = np.array([named[identity] for identity in ids])
    if not weights.any():
        raise DataError(f"{path}: all weights are 0, so that nothing is left to train on; give one above 0")
    return weights


def _named_weights(path: str) -> dict[str, float]:
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.sampling: the file {path} cannot be read ({error}); give 'uniform', 'class_balanced', or a text "
            "file with an id and a weight on each line"
        ) from None
    named = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, weight = [*line.rsplit(None, 1), ""][:2]
        try:
            named[name.strip()] = value = float(weight)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise DataError(f"{path}, line {number}: {line!r} is not an id, a blank and a number of at least 0")
    return named
