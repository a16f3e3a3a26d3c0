"""Duplicate images, within a split and across two splits."""

from collections import defaultdict

import numpy as np

from flaxseg.data.statistics import Statistics

_MAX_DISTANCE = 4
"""Images look alike when their hashes differ in at most this many of 128 bits."""

_MIN_BITS = 8
"""Hashes with fewer set (or unset) bits come from uniform images or plain gradients, and are not compared."""


def duplicate_groups(statistics: Statistics) -> list[list[str]]:
    """Returns groups of images of one split that are equal in every pixel, as lists of their ids."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for digest, identity in zip(statistics.digests, statistics.ids, strict=True):
        groups[digest].append(identity)
    return [ids for ids in groups.values() if len(ids) > 1]


def exact_matches(train: Statistics, evaluation: Statistics) -> list[tuple[str, str]]:
    """Returns the evaluation images that equal a training image in every pixel, as pairs (training id, evaluation id).

    Of several equal training images the first is named.
    """
    first = dict(zip(reversed(train.digests), reversed(train.ids), strict=True))
    images = zip(evaluation.digests, evaluation.ids, strict=True)
    return [(first[digest], identity) for digest, identity in images if digest in first]


def near_matches(train: Statistics, evaluation: Statistics) -> list[tuple[str, str]]:
    """Returns the evaluation images that resemble a training image, as pairs (training id, evaluation id).

    Images are compared by difference hashes of 9 x 9 cells, which resizing, JPEG compression and brightness hardly
    change. This finds scaled copies and neighboring video frames, and sometimes different images of similar, simple
    content. Images that equal a training image are left to `exact_matches`.
    """
    digests = set(train.digests)
    found = []
    for value, digest, identity in zip(evaluation.hashes, evaluation.digests, evaluation.ids, strict=True):
        bits = int(np.bitwise_count(value).sum())
        if digest in digests or not len(train.hashes) or not _MIN_BITS <= bits <= 128 - _MIN_BITS:
            continue
        distance = np.bitwise_count(train.hashes ^ value).sum(1)
        if distance.min() <= _MAX_DISTANCE:
            found.append((train.ids[int(distance.argmin())], identity))
    return found
