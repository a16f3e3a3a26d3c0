"""Statistics of a split written out by hand, for tests of what is concluded from them."""

import numpy as np
import pytest

from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.statistics import Problem, Statistics
from flaxseg.errors import UnknownValues


def make_statistics(
    counts=((1, 1, 0),),
    sizes=None,
    channels=None,
    problems=(),
    digests=None,
    is_float=None,
    values=(0, 255),
    clipped_fractions=(0, 0),
    orientations=None,
):
    """Statistics of images e0, e1, ... with these pixels of each class and, last, ignored ones."""
    counts = np.array(counts)
    number = len(counts)
    return Statistics(
        num_classes=counts.shape[1] - 1,
        indices=np.arange(number),
        ids=tuple(f"e{i}" for i in range(number)),
        sizes=np.array(sizes or [(8, 8)] * number).reshape(-1, 2),
        channels=np.array(channels or [3] * number),
        orientations=np.array(orientations or [1] * number),
        counts=counts,
        is_float=np.array(is_float or [False] * number),
        value_range=values,
        clipped_fractions=clipped_fractions,
        mean=np.zeros(3),
        std=np.ones(3),
        digests=digests or tuple(bytes([i]) for i in range(number)),
        hashes=np.zeros((number, 2), np.uint64),
        problems=tuple(problems),
    )


def unknown_value_problems(*masks, values, ignore_values=()):
    """The problems of masks that hold values other than `values` and `ignore_values`."""
    found = []
    for place, mask in enumerate(masks):
        with pytest.raises(UnknownValues) as caught:
            ClassValues(values, ignore_values).to_classes(np.array([mask], np.uint8), name=f"m{place}")
        found.append(Problem(place, str(caught.value), caught.value))
    return found
