"""Which images of an evaluation are shown."""

import numpy as np

from flaxseg.metrics import PerImage
from flaxseg.train.shown_images import fixed_indices, worst_indices


def scores_of(*iou):
    """Returns scores of images with one class, whose intersection and union are the two numbers of each."""
    rows = [[[inside, inside, union]] for inside, union in iou]
    return PerImage((np.array(rows[:2], np.int64), np.array(rows[2:], np.int64)))


def test_fixed_images_are_spread_over_the_dataset():
    assert fixed_indices(4, 100) == [0, 25, 50, 75]
    assert fixed_indices(4, 3) == [0, 1, 2]
    assert fixed_indices(0, 3) == []


def test_the_worst_images_have_the_lowest_iou_and_equal_ones_keep_their_order():
    # The fourth has no valid pixels, and the last is padding.
    scores = scores_of((1, 2), (0, 3), (2, 4), (0, 0), (1, 4), (3, 3), (0, 0))
    assert worst_indices(scores, 3, 6) == [1, 4, 0]
    assert worst_indices(scores, 9, 6) == [1, 4, 0, 2, 5]
