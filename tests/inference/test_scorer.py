"""Batches of labels of different sizes have the scores of the whole batch, whatever is scored alone."""

import functools

import jax
import numpy as np
import pytest

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.inference.scorer import Scorer
from flaxseg.inference.scoring import EvalMetrics, merge_all, score_logits
from flaxseg.metrics import ConfusionMatrix
from flaxseg.train.sharding import make_mesh, place_batch, replicated

METRICS = ("per_image",)

SIZES = [(40, 30), (150, 90), (0, 0), (50, 64)]
"""The last batch of an evaluation has padding."""


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    label = np.full((len(SIZES), 192, 128), IGNORE_LABEL, np.uint8)
    for canvas, (height, width) in zip(label, SIZES, strict=True):
        canvas[:height, :width] = random.choice([0, 1, 2, IGNORE_LABEL], (height, width), p=[0.5, 0.3, 0.1, 0.1])
    return {"label": label, "size": np.array(SIZES, np.int32)}


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(1).normal(size=(len(SIZES), 24, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(batch, logits):
    return merge_all([jax.jit(functools.partial(score_logits, metrics=METRICS))(logits, batch)])


@pytest.mark.parametrize("shards", [1, 2])
def test_examples_scored_alone_have_the_scores_of_the_whole_batch(batch, logits, whole, shards):
    mesh, canvases = make_mesh(data=shards), []

    def place(part):
        canvases.append(part["label"].shape)
        return place_batch(part, mesh)

    scorer = Scorer(metrics=METRICS, shards=shards, place=place, sharding=replicated(mesh))
    found = merge_all([scorer(place_batch({"image": logits}, mesh)["image"], batch)])
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    expected = {1: [(1, 64, 64), (1, 192, 96), *[(1, 64, 64)] * 2], 2: [(2, 64, 64), (2, 192, 96)]}[shards]
    assert canvases == expected, "the first examples, and the second ones, of each shard"


def test_labels_of_similar_sizes_are_scored_together(batch, logits, whole):
    canvases = []
    scorer = Scorer(place=lambda part: canvases.append(part["label"].shape) or part)
    alike = {"label": batch["label"][:, :64, :64], "size": np.minimum(batch["size"], 64)}
    assert not scorer.has_scored
    scorer(logits, alike)
    assert scorer.has_scored
    scorer(logits, {"label": batch["label"][:, :24, :16]})
    assert canvases == [(4, 64, 64), (4, 24, 16)]


def test_scores_are_fetched_two_batches_late():
    events = []

    class Scores(EvalMetrics):
        def to_host(self):
            events.append(f"fetch {int(np.sum(self.confusion.counts))}")
            return super().to_host()

    def dispatched():
        for number in range(1, 5):
            events.append(f"dispatch {number}")
            yield Scores(ConfusionMatrix(np.array([[number]])))

    assert merge_all(dispatched()).confusion.counts.tolist() == [[10]]
    dispatches = [f"dispatch {number}" for number in (1, 2, 3)]
    assert events == [*dispatches, "fetch 1", "dispatch 4", "fetch 2", "fetch 3", "fetch 4"]
