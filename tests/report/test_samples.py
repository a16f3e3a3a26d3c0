"""Which images of an evaluation are collected."""

import numpy as np

from flaxseg.report.samples import SampleImages


def batch_of(count, filled):
    """Returns a batch at native resolution with labels 6x4 in arrays of 8x8; only the first `filled` are no padding."""
    label = np.full((count, 8, 8), 255, np.uint8)
    label[:filled, :6, :4] = 1
    size = np.zeros((count, 2), np.int32)
    size[:filled] = 6, 4
    return {"image": np.zeros((count, 8, 8, 3), np.uint8), "label": label, "size": size}


def test_the_first_images_are_collected_without_padding():
    images = SampleImages(3)
    prediction = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 8, 8), np.uint8)
    images.add(batch_of(4, filled=2), prediction)
    assert len(images.rows) == 2 and images.wants_more
    images.add(batch_of(4, filled=4), prediction)
    assert len(images.rows) == 3 and not images.wants_more
    assert [row[2][0, 0] for row in images.rows] == [0, 1, 0]
    for _, label, _ in images.rows:
        np.testing.assert_array_equal(label, np.ones((6, 4)))
