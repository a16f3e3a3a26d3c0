"""Training scalars are averages over the steps since the last ones, whether or not the device has finished them."""

import jax.numpy as jnp
import numpy as np
import pytest
from clu.metrics import Average

from flaxseg.errors import TrainingError
from flaxseg.train.hard_examples import HARDEST, HardExamples
from flaxseg.train.step_check import NOT_TAKEN, StepCheck
from flaxseg.train.step_log import StepLog
from flaxseg.train.step_metrics import TrainMetrics


class Late:
    """A number on a device that is not ready until the host waits for it."""

    def __init__(self, value):
        self.value, self.waited = jnp.float32(value), False

    def block_until_ready(self):
        self.waited = True
        return self

    def __array__(self, dtype=None, copy=None):
        assert self.waited, "read before it was waited for"
        return self.value.__array__(dtype)


def metrics(value, late=False, code=0, skipped=0):
    plain = Average(total=jnp.float32(2 * value), count=jnp.int32(1))
    half = Average(total=jnp.float32(0.5), count=jnp.int32(1))
    return TrainMetrics(
        loss=Average(total=Late(value) if late else jnp.float32(value), count=jnp.int32(1)),
        parts={"cross_entropy": plain},
        grad_norm=plain,
        update_norm=plain,
        plateau_multiplier=half,
        check=StepCheck(code=np.int32(code), finite_images=np.ones(8, bool), skipped=np.int32(skipped)),
    )


def test_scalars_are_averages_since_the_last_read():
    log = StepLog(lambda step: 0.1 * step, batch_size=8)
    assert not log
    log.add(metrics(5))
    log.add(metrics(6))
    assert log
    scalars, merged = log.read(6)
    assert not log
    assert scalars["loss"] == pytest.approx((5 + 6) / 2) and merged.loss.count == 2
    assert scalars["loss/cross_entropy"] == pytest.approx(11)
    assert scalars["learning_rate"] == pytest.approx(0.1 * 5 * 0.5), "of the last step, times the plateau's multiplier"
    assert scalars["images_per_second"] == pytest.approx(8 * scalars["steps_per_second"])
    assert "plateau_multiplier" not in scalars
    log.add(metrics(7, late=True))
    assert log.read(7)[0]["loss"] == pytest.approx(7)


def test_the_throughput_leaves_out_slow_steps_unless_there_are_no_others(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    log = StepLog(lambda _: 0.0, batch_size=4)
    log.add(metrics(1))
    now = 100.0
    log.leave_out()
    for value in (1, 1):
        log.add(metrics(value))
    now = 110.0
    assert log.read(3)[0]["images_per_second"] == 4 * 2 / 10
    log.add(metrics(1))
    now = 130.0
    log.leave_out()
    now = 131.0
    assert log.read(4)[0]["images_per_second"] == pytest.approx(4 / 21)


def test_a_loss_that_is_not_finite_names_its_step():
    log = StepLog(lambda _: 0.0, batch_size=8)
    for step in range(11, 17):
        code = 0 if step < 13 else 2 if step == 13 else NOT_TAKEN
        log.add(metrics(float("nan") if step == 13 else step, code=code))
    message = r"step 13: the loss is not finite, although every image is \(not finite: cross_entropy, loss = nan"
    with pytest.raises(TrainingError, match=message) as raised:
        log.read(16)
    assert (raised.value.finding.step, raised.value.finding.kind) == (13, "loss")


def test_skipped_steps_are_counted_and_excluded_from_averages():
    found = []
    log = StepLog(lambda updates: 0.1 * updates, batch_size=8, skipped=1, on_skip=found.append)
    for value, code, skipped in ((1, 0, 1), (float("nan"), 3, 2), (3, 0, 2), (float("inf"), 2, 3)):
        log.add(metrics(value, code=code, skipped=skipped))
    scalars, merged = log.read(10)
    assert scalars["loss"] == 2 and merged.loss.count == 2
    assert [(each.step, each.kind) for each in found] == [(8, "gradient"), (10, "loss")]
    assert scalars["skipped_steps"] == log.skipped == merged.check.skipped == 3
    assert scalars["learning_rate"] == pytest.approx(0.1 * (10 - 1 - 3) * 0.5), "by the number of updates"
    log.add(metrics(float("nan"), code=2, skipped=4))
    assert np.isnan(log.read(11)[0]["loss"]), "there is no other step"
    log.add(metrics(float("nan"), code=2, skipped=4))
    with pytest.raises(TrainingError, match="step 12: the loss is not finite"):
        log.read(12)


def test_hardest_examples_are_merged_over_steps():
    log = StepLog(lambda _: 0.0, batch_size=8)
    for step, hardest in enumerate(
        [HardExamples(np.float32([3, 1]), np.int32([7, 8])), HardExamples(np.float32([2, 0]), np.int32([7, 9]))]
    ):
        log.add(metrics(step).replace(extra={HARDEST: hardest}))
    scalars, merged = log.read(2)
    assert merged.extra[HARDEST].pairs() == [(7, 3.0), (8, 1.0)]
    assert HARDEST not in scalars


def test_averages_among_further_metrics_are_scalars():
    log = StepLog(lambda _: 0.0, batch_size=8)
    for value in (1.0, 4.0):
        average = Average(total=jnp.float32(value), count=jnp.int32(1))
        log.add(metrics(0).replace(extra={"confidence": average}))
    assert log.read(2)[0]["confidence"] == pytest.approx(2.5)
