"""Pictures that are there more than once, within a split and across two."""

from collections import defaultdict

import numpy as np

from flaxseg.data.statistics import Statistics

_NEAR = 4
"""Bits of 128 in which the hashes of pictures that look alike may differ."""

_FLAT = 8
"""A hash with fewer set (or unset) bits comes from an even picture or a plain gradient, and says too little."""


def repeated(statistics: Statistics) -> list[list[str]]:
    """Returns the ids of pictures that are equal in every pixel: a list for each that is there more than once."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for digest, identity in zip(statistics.digests, statistics.ids, strict=True):
        groups[digest].append(identity)
    return [ids for ids in groups.values() if len(ids) > 1]


def shared(train: Statistics, evaluation: Statistics) -> list[tuple[str, str]]:
    """Returns the ids of each evaluation picture that training has too, pixel for pixel: (there, here)."""
    first = dict(zip(reversed(train.digests), reversed(train.ids), strict=True))
    both = zip(evaluation.digests, evaluation.ids, strict=True)
    return [(first[digest], identity) for digest, identity in both if digest in first]


def alike(train: Statistics, evaluation: Statistics) -> list[tuple[str, str]]:
    """Returns the ids of each evaluation picture that looks like one of training without being equal: (there, here).

    By difference hashes of 9 x 9 cells, little changed by size, JPEG and brightness: scaled copies and neighboring
    frames of a film are found; different pictures of one plain make may be, too.
    """
    digests = set(train.digests)
    found = []
    for value, digest, identity in zip(evaluation.hashes, evaluation.digests, evaluation.ids, strict=True):
        bits = int(np.bitwise_count(value).sum())
        if digest in digests or not len(train.hashes) or not _FLAT <= bits <= 128 - _FLAT:
            continue
        distance = np.bitwise_count(train.hashes ^ value).sum(1)
        if distance.min() <= _NEAR:
            found.append((train.ids[int(distance.argmin())], identity))
    return found
