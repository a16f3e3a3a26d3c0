"""Differences between an exported program and the network, by hand."""

import numpy as np
import pytest

from flaxseg.deploy.comparison import Comparison, compare
from flaxseg.errors import ExportError

LOGITS = np.array([[[[1.0, 3.0], [2.0, -4.0]]]], np.float32)
"""One image of two pixels, of classes 1 and 0."""


def comparison(found, output="logits", logits=LOGITS, label=None):
    batches = [(np.zeros((1, 1, 2, 3)), label)]
    return compare(lambda image: logits, lambda image: np.asarray(found), batches, output=output)


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
    found = compare(lambda x: LOGITS * len(x), lambda x: LOGITS * len(x) + 0.5, [(image, None)] * 2, output="logits")
    assert found == Comparison(2, 4, 0, largest_logit=4.0, largest_difference=0.5)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_difference_is_an_error_and_so_is_nan(value):
    comparison(LOGITS + 0.0003).check("file", tolerance=1e-4)
    message = r"file: its outputs differ from the network's by up to .* on 1 images, where 0\.0004 is allowed"
    with pytest.raises(ExportError, match=message):
        comparison(LOGITS + np.float32(value)).check("file", tolerance=1e-4)


@pytest.mark.parametrize("output", ["logits", "classes"])
def test_labels_give_the_miou_before_and_after(output):
    # The network finds classes 1 and 0; the program finds 1 in both pixels. Both pixels are of class 1.
    found = np.array([[[1, 1]]]) if output == "classes" else LOGITS[..., :1] * 0 + np.array([0.0, 1.0], np.float32)
    entry = comparison(found, output, label=np.array([[[1, 1]]], np.uint8)).to_json()
    # The IoU of class 0 is 0 of 1 before, and undefined after, so that only class 1 is averaged.
    assert (entry["miou_before"], entry["miou_after"]) == (0.25, 1.0)
    assert "confusion_before" not in entry


def test_the_miou_of_several_batches_is_that_of_their_sum():
    labels = [np.array([[[1, 0]]], np.uint8), np.array([[[0, 255]]], np.uint8)]
    batches = [(np.zeros((1, 1, 2, 3)), label) for label in labels]
    done = []
    found = compare(lambda x: LOGITS, lambda x: LOGITS, batches, output="logits", done=done.append)
    assert done == [1, 1]
    # Class 0: one hit of two labels and one prediction; class 1: one hit of one label and two predictions.
    assert found.miou == (0.5, 0.5)
    assert compare(lambda x: LOGITS, lambda x: LOGITS, [(np.zeros((1, 1, 2, 3)), None)], output="logits").miou is None


def test_images_without_a_valid_pixel_have_no_miou():
    entry = comparison(LOGITS, label=np.full((1, 1, 2), 255, np.uint8)).to_json()
    assert entry["miou_before"] is None and entry["miou_after"] is None
