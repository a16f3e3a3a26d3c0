"""The search for duplicate images, within a split and across two splits."""

import numpy as np
from made_datasets import dataset, example

from flaxseg.data.statistics import compute_statistics
from flaxseg.inspection.duplicates import duplicate_groups, exact_matches, near_matches


def noise(seed, size=(40, 40), label=0):
    image = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return image.repeat(size[0] // 8, 0).repeat(size[1] // 8, 1), np.full(size, label, np.uint8)


def test_equal_images_are_found_even_if_their_labels_differ():
    train = compute_statistics(dataset(noise(0), noise(1), noise(0, label=2), noise(2), noise(0)), num_threads=0)
    evaluation = compute_statistics(dataset(noise(3), noise(0), noise(2)), num_threads=0)
    assert duplicate_groups(train) == [["e0", "e2", "e4"]] and duplicate_groups(evaluation) == []
    assert exact_matches(train, evaluation) == [("e0", "e1"), ("e3", "e2")]
    # The same bytes with another shape are a different image.
    flat = example([[0, 0, 0, 0]]), example([[0, 0], [0, 0]])
    assert duplicate_groups(compute_statistics(dataset(*flat), num_threads=0)) == []


def test_similar_images_are_found_and_equal_ones_excluded():
    image, label = noise(1)
    brighter = (image // 2 + 60, label)
    train = compute_statistics(dataset(*(noise(seed) for seed in range(20))), num_threads=0)
    evaluation = compute_statistics(
        dataset(noise(4), brighter, noise(7, size=(80, 56)), noise(99), example([[0] * 9])), num_threads=0
    )
    assert near_matches(train, evaluation) == [("e1", "e1"), ("e7", "e2")]
    assert near_matches(compute_statistics(dataset(), num_threads=0), evaluation) == []
