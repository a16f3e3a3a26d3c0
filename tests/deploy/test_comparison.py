"""Differences between an exported program and the network, by hand."""

import numpy as np
import pytest

from flaxseg.deploy.comparison import Comparison, compare
from flaxseg.errors import ExportError

LOGITS = np.array([[[[1.0, 3.0], [2.0, -4.0]]]], np.float32)
"""One image of two pixels, of classes 1 and 0."""


def comparison(found, output="logits", logits=LOGITS):
    return compare(lambda image: logits, lambda image: np.asarray(found), [np.zeros((1, 1, 2, 3))], output=output)


def test_logits():
    found = comparison(LOGITS + np.array([[[[2.5, 0.0], [0.0, 0.25]]]], np.float32))
    assert found == Comparison(1, 2, differing_pixels=1, largest_logit=4.0, largest_difference=2.5)


def test_probabilities():
    probability = 1 / (1 + np.exp(np.array([2.0, -6.0])))
    exact = np.stack([probability, 1 - probability], -1)[None, None]
    assert comparison(exact, "probabilities").largest_difference < 1e-6
    assert comparison(exact + np.array([0.0, 0.1]), "probabilities").largest_difference == pytest.approx(0.1, abs=1e-6)


def test_a_wrong_class_counts_by_how_much_lower_its_logit_is():
    assert comparison(np.array([[[1, 0]]], np.uint8), "classes").largest_difference == 0
    found = comparison(np.array([[[0, 0]]], np.uint8), "classes")
    assert (found.differing_pixels, found.largest_difference) == (1, 2.0)


def test_batches_add_up():
    image = np.zeros((1, 1, 2, 3))
    found = compare(lambda x: LOGITS * len(x), lambda x: LOGITS * len(x) + 0.5, [image, image], output="logits")
    assert found == Comparison(2, 4, 0, largest_logit=4.0, largest_difference=0.5)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_difference_is_an_error_and_so_is_nan(value):
    comparison(LOGITS + 0.0003).check("file", tolerance=1e-4)
    message = r"file: its outputs differ from the network's by up to .* on 1 images, where 0\.0004 is allowed"
    with pytest.raises(ExportError, match=message):
        comparison(LOGITS + np.float32(value)).check("file", tolerance=1e-4)
