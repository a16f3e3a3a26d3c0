"""Learning-rate schedules at a few steps, computed by hand."""

import math

import jax
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.optimizers import SCHEDULES, make_schedule


def rates(name, steps, *, warmup_steps=0, total_steps=100, **options):
    schedule = make_schedule(
        name, learning_rate=0.8, warmup_steps=warmup_steps, total_steps=total_steps, options=options
    )
    return [float(schedule(step)) for step in steps]


def test_warm_up_then_cosine_by_hand():
    found = rates("cosine", [0, 1, 2, 3, 7, 11], warmup_steps=3, total_steps=11)
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.8, 0.4, 0.0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("constant", {}, {0: 0.8, 99: 0.8}),
        ("cosine", {"end": 0.25}, {0: 0.8, 50: 0.8 * 0.625, 100: 0.2}),
        ("polynomial", {}, {0: 0.8, 50: 0.8 * 0.5**0.9, 90: 0.8 * 0.1**0.9, 100: 0.0}),
        ("polynomial", {"power": 1.0, "end": 0.5}, {50: 0.6, 100: 0.4}),
        ("exponential", {"end": 0.01}, {0: 0.8, 50: 0.08, 100: 0.008}),
        ("step", {"boundaries": (0.5, 0.9), "factor": 0.5}, {0: 0.8, 49: 0.8, 50: 0.4, 89: 0.4, 90: 0.2}),
        (
            "one_cycle",
            {},
            {0: 0.032, 14.5: (0.8 + 0.032) / 2, 29: 0.8, 64: 0.4 * (1 + 1 / 250_000), 99: 0.8 / 250_000},
        ),
        ("warmup_stable_decay", {}, {0: 0.8, 80: 0.8, 85: 0.4, 100: 0.0}),
        ("warmup_stable_decay", {"decay": 0.5, "end": 0.1}, {50: 0.8, 62.5: 0.8 * 0.55, 100: 0.08}),
        ("plateau", {"window": 2}, {0: 0.8, 99: 0.8}),
    ],
)
def test_rates_by_hand(name, options, expected):
    np.testing.assert_allclose(rates(name, expected, **options), list(expected.values()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_learning_rate_may_be_an_argument_of_a_program(name):
    options = {"window": 2} if name == "plateau" else {}

    def rate(peak, step):
        schedule = make_schedule(name, learning_rate=peak, warmup_steps=3, total_steps=40, options=options)
        return schedule(step)

    steps = np.arange(41)
    constant = jax.jit(jax.vmap(lambda step: rate(0.3, step)))(steps)
    np.testing.assert_allclose(jax.jit(jax.vmap(rate, (None, 0)))(0.3, steps), constant, rtol=1e-6, atol=1e-9)


def test_one_cycle_ends_on_the_last_step():
    # The rates of PyTorch's OneCycleLR(max_lr=0.8, total_steps=20) at its first, highest and last steps.
    found = rates("one_cycle", range(20), total_steps=20)
    np.testing.assert_allclose(found[:2], [0.032, 0.10533747], rtol=1e-6)
    np.testing.assert_allclose(found[4:7], [0.72666253, 0.8, 0.78997120], rtol=1e-6)
    np.testing.assert_allclose(found[18:], [0.010031995, 3.2e-6], rtol=1e-6)


@pytest.mark.parametrize(("total_steps", "peak"), [(1, None), (2, 1), (3, 1), (4, 1)])
def test_one_cycle_of_a_few_steps_reaches_the_peak(total_steps, peak):
    found = rates("one_cycle", range(total_steps), total_steps=total_steps)
    assert found[0] == pytest.approx(0.032)
    assert peak is None or found[peak] == pytest.approx(0.8)
    assert total_steps < 3 or found[-1] == pytest.approx(3.2e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_to_its_initial_rate_and_stays_finite(name):
    options = {"window": 2, "patience": 3} if name == "plateau" else {}
    found = rates(name, range(0, 130), warmup_steps=4, total_steps=100, **options)
    begin = rates(name, [0], total_steps=96, **options)[0]
    np.testing.assert_allclose(found[:5], [begin * fraction for fraction in (0.2, 0.4, 0.6, 0.8, 1.0)], rtol=1e-6)
    assert all(math.isfinite(rate) and 0 <= rate <= 0.8 + 1e-6 for rate in found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"end": 1.5}, "^options.end = 1.5: must be a number from 0 to 1"),
        ("polynomial", {"power": 0}, "^options.power = 0: must be a number above 0"),
        ("exponential", {"end": 0.0}, "^options.end = 0.0: must be a number above 0 and at most 1"),
        (
            "step",
            {"boundaries": (30, 60)},
            r"^options.boundaries = \(30, 60\): must be increasing fractions of the run, each above 0 and below 1",
        ),
        ("step", {"boundaries": (0.5, 0.4)}, "must be increasing fractions"),
        (
            "plateau",
            {"window": 50, "patience": 2},
            "window = 50: with patience = 2 the first reduction is possible after 150 steps, but .* only 100",
        ),
        ("plateau", {"factor": 1.0}, "^options.factor = 1.0: must be a number above 0 and below 1"),
        ("warmup_stable_decay", {"decay": 0.0}, "^options.decay = 0.0: must be a number above 0"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        rates(name, [0], **options)


def test_two_drops_that_round_to_the_same_step_both_apply():
    found = rates("step", [0, 1, 2], total_steps=3, boundaries=(0.6, 0.7), factor=0.5)
    np.testing.assert_allclose(found, [0.8, 0.8, 0.2], rtol=1e-6)


def test_a_function_that_is_not_a_schedule_is_named():
    with pytest.raises(ArgumentError, match="^name = 'os.path:join': cannot be called with a learning rate"):
        rates("os.path:join", [0])


def test_warm_up_must_be_shorter_than_the_run():
    with pytest.raises(ArgumentError, match="^warmup_steps = 100: must be below the 100 steps of the whole run"):
        rates("cosine", [0], warmup_steps=100)


def test_an_unknown_name_is_named():
    with pytest.raises(ArgumentError, match="^name = 'cos'"):
        rates("cos", [0])
