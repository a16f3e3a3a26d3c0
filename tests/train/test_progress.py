"""Scalars are averages over the steps since the last ones, whether the device is ahead of the host or behind."""

import jax.numpy as jnp
import numpy as np
import pytest
from clu.metrics import Average

from flaxseg.errors import TrainingError
from flaxseg.train.hard_examples import HardExamples
from flaxseg.train.progress import TrainingProgress
from flaxseg.train.step import TrainMetrics


class Late:
    """A number of a device that is never ready until it is waited for."""

    def __init__(self, value):
        self.value, self.waited = jnp.float32(value), False

    def is_ready(self):
        return self.waited

    def block_until_ready(self):
        self.waited = True
        return self

    def __array__(self, dtype=None, copy=None):
        assert self.waited, "read before it was waited for"
        return self.value.__array__(dtype)


def metrics(value, late):
    total = Late(value) if late else jnp.float32(value)
    plain = Average(total=jnp.float32(2 * value), count=jnp.int32(1))
    half = Average(total=jnp.float32(0.5), count=jnp.int32(1))
    return TrainMetrics(
        loss=Average(total=total, count=jnp.int32(1)),
        parts={"cross_entropy": plain},
        grad_norm=plain,
        update_norm=plain,
        rate_scale=half,
    )


@pytest.mark.parametrize("late", [False, True])
def test_scalars_come_every_so_often_and_at_the_end(late):
    written = []
    options = {"start": 4, "total": 11, "every": 3, "batch_size": 8}
    with TrainingProgress(lambda *given: written.append(given), lambda step: 0.1 * step, **options) as progress:
        for step in range(5, 11):
            progress.add(step, metrics(step, late))
            # A step's scalars are read once the step after it was dispatched.
            assert len(written) == {5: 0, 6: 0, 7: 1, 8: 1, 9: 1, 10: 2}[step]
        with progress.paused():
            assert len(written) == 3
        progress.add(11, metrics(11, late))
    assert [step for step, _ in written] == [6, 9, 10, 11]
    losses = [scalars["loss"] for _, scalars in written]
    assert losses == pytest.approx([(5 + 6) / 2, (7 + 8 + 9) / 3, 10, 11])
    assert written[0][1]["loss/cross_entropy"] == pytest.approx(11)
    assert [scalars["learning_rate"] for _, scalars in written] == pytest.approx([0.25, 0.4, 0.45, 0.5])
    rate = written[1][1]
    assert rate["images_per_second"] == pytest.approx(8 * rate["steps_per_second"])


def test_an_error_inside_is_not_hidden_by_waiting():
    with (
        pytest.raises(RuntimeError, match="inside"),
        TrainingProgress(lambda *_: None, lambda _: 0.0, start=0, total=5, every=3, batch_size=8) as progress,
    ):
        progress.add(1, metrics(1, late=True))
        raise RuntimeError("inside")


def test_a_loss_that_is_not_finite_names_its_step_once_it_is_read():
    written = []
    progress = TrainingProgress(
        lambda *given: written.append(given), lambda _: 0.0, start=10, total=50, every=5, batch_size=8
    )
    with (
        pytest.raises(
            TrainingError, match=r"step 13: the loss, its gradient or the step taken is not finite \(loss = nan"
        ),
        progress,
    ):
        for step in range(11, 17):
            progress.add(step, metrics(float("nan") if step == 13 else step, late=True))
    assert written == []


def test_hardest_examples_are_merged_over_the_steps_since_the_last():
    written = []
    hardest = [HardExamples(np.float32([3, 1]), np.int32([7, 8])), HardExamples(np.float32([2, 0]), np.int32([7, 9]))]
    with TrainingProgress(
        lambda *_: None, lambda _: 0.0, start=0, total=2, every=5, batch_size=8,
        write_hardest=lambda step, examples: written.append((step, examples.named())),
    ) as progress:  # fmt: skip
        for step in (1, 2):
            progress.add(step, metrics(step, late=False).replace(hardest=hardest[step - 1]))
    assert written == [(2, [(7, 3.0), (8, 1.0)])]
