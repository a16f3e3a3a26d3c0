"""The learning-rate range test: what it suggests for known losses, and when it stops."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import TrainingError
from flaxseg.train.lr_range import range_test, rising_schedule


def range_of(loss_of):
    """Returns the range test of a loss that depends on the rate alone, from 1e-6 to 100 with ten steps per decade."""
    steps, taken = 81, []
    schedule = rising_schedule(1e-6, 100.0, steps)

    def step(number, batch):
        taken.append(float(schedule(number)))
        return number + 1, jnp.float32(loss_of(taken[-1]))

    found = range_test(step, 0, iter(range(steps)), lowest=1e-6, highest=100.0, steps=steps)
    np.testing.assert_allclose(found.rates, taken[: len(found.rates)], rtol=1e-4)
    return found


def test_the_steepest_and_the_lowest_rate_of_a_loss_that_falls_and_rises():
    # It falls fastest at 1e-3 and rises from 0.1 on, with its minimum in between.
    found = range_of(lambda rate: 2 - 1 / (1 + (1e-3 / rate) ** 2) + (rate / 3) ** 2)
    assert 0.7e-3 < found.steepest < 1.4e-3
    lowest = min(found.rates, key=lambda rate: (1e-3 / rate) ** 2 + (rate / 3) ** 2)  # the loss without its constant
    assert lowest / 2 < 10 * found.tenth_of_lowest < lowest * 2
    assert found.rates[-1] < 100 and found.losses[-1] > 4, "the test stops once the loss is far above its first value"


def test_an_offset_of_the_loss_does_not_matter():
    above = range_of(lambda rate: 2 - 1 / (1 + (1e-3 / rate) ** 2))
    below = range_of(lambda rate: -8 - 1 / (1 + (1e-3 / rate) ** 2))
    assert len(above.rates) == len(below.rates) == 81
    assert above.steepest == below.steepest and above.falls and below.falls


def test_a_loss_that_never_falls_suggests_nothing():
    assert not range_of(lambda rate: 1.0).falls
    assert not range_of(lambda rate: 1.0 + rate).falls


def test_a_loss_that_is_not_finite_ends_the_test_and_is_left_out():
    found = range_of(lambda rate: float("nan") if rate > 0.9 else 1.0)
    assert found.rates[-1] == pytest.approx(10**-0.1, rel=1e-3) and np.isfinite(found.losses).all()


def test_a_loss_that_is_never_finite_is_an_error():
    with pytest.raises(TrainingError, match="the loss is not finite after 0 step.*learning rate of 1e-06: begin"):
        range_of(lambda rate: float("inf"))
