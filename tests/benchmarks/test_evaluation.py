"""The time of an evaluation relative to its forward passes."""

import argparse

import pytest

from benchmarks import evaluation

FLAGS = argparse.Namespace(
    model="plain_unet", encoder="", size=16, batch=8, data="shapes", dir="", split="test", images=20, native=(40, 50),
    rounds=2,
)  # fmt: skip


def test_the_first_images_are_evaluated_at_their_own_size():
    run = evaluation.make_run(FLAGS, ("boundary",))
    assert len(run.data.eval_batches) == 3
    assert run.loop.evaluation.metrics == ("boundary",)
    batch = run.data.eval_batches[0]
    assert batch["image"].shape == (8, 16, 16, 3)
    assert batch["size"].tolist() == [[40, 50]] * 8


@pytest.mark.long
def test_an_evaluation_takes_longer_than_its_forward_passes():
    found = evaluation.measure(FLAGS)
    assert set(found) == {evaluation.FORWARD, *evaluation.EVALUATIONS}
    assert all(len(seconds) == 2 for seconds in found.values())
    assert min(found["evaluation"]) > 0.5 * min(found[evaluation.FORWARD])
