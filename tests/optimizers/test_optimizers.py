"""Optimizers: first steps by hand, weight decay, gradient clipping, learning-rate multipliers, and plateaus."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.optimizers import (
    OPTIMIZERS,
    LearningRateMultipliers,
    decay_mask,
    make_optimizer,
    make_schedule,
    plateau_multiplier,
)

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}


def step(tx, gradients, params, **extra):
    return jax.jit(tx.update)(gradients, tx.init(params), params, **extra)


def test_biases_and_normalization_scales_have_no_weight_decay():
    assert decay_mask(PARAMS) == {"kernel": True, "bias": False, "scale": False}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_zero_gradients_only_kernels_shrink(name):
    tx = make_optimizer(name, schedule=optax.constant_schedule(0.1), weight_decay=0.5)
    updates, _ = step(tx, jax.tree.map(jnp.zeros_like, PARAMS), PARAMS)
    expected = {
        "sgd": -0.1 * 0.5 * 1.9,  # the decay is part of the gradient, of which Nesterov momentum takes 1 + 0.9 first
        "rmsprop": -0.1 * 0.5 / np.sqrt(0.9 + 0.1 * 0.25 + 1e-3),  # the average of squares starts at 1
        "adam": -0.1,  # the first step has the size of the learning rate, whatever the gradient
        "lamb": -0.1,  # the parameter's norm, 2, over the norm of the decay, 1, times the decay, 0.5
    }.get(name, -0.1 * 0.5)
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], 0)
    np.testing.assert_allclose(updates["scale"], 0)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_the_first_step_has_the_size_of_the_learning_rate(name):
    tx = make_optimizer(name, schedule=optax.constant_schedule(0.1))
    gradients = {"kernel": jnp.array([[1e-3, -5.0]])}
    updates, _ = step(tx, gradients, gradients)
    np.testing.assert_allclose(updates["kernel"], [[-0.1, 0.1]], rtol=1e-4)


def test_muon_orthogonalizes_kernels_and_uses_nesterov_adam_for_other_parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"kernel": (3, 3, 4, 6), "depthwise": (3, 3, 1, 6), "bias": (6,)}
    gradients = {name: jax.random.normal(key, shape) for (name, shape), key in zip(shapes.items(), keys, strict=True)}
    updates, _ = step(make_optimizer("muon", schedule=optax.constant_schedule(0.1)), gradients, gradients)
    values = np.linalg.svd(np.asarray(updates["kernel"]).reshape(36, 6), compute_uv=False)
    # The Newton-Schulz iteration brings singular values to about 1; these are scaled by 0.2 sqrt(36) and the rate.
    assert (values > 0.6 * 0.12).all() and (values < 1.3 * 0.12).all()
    for name in ("depthwise", "bias"):
        # Nesterov momentum adds 0.9 * 0.1 / (1 - 0.9^2) to the first step.
        np.testing.assert_allclose(updates[name], -0.1 * (1 + 0.09 / 0.19) * np.sign(gradients[name]), rtol=1e-3)


def test_options_reach_the_optimizer():
    tx = make_optimizer("sgd", schedule=optax.constant_schedule(0.1), options={"momentum": 0.0})
    updates, _ = step(tx, {"a": jnp.array([3.0])}, {"a": jnp.array([1.0])})
    np.testing.assert_allclose(updates["a"], [-0.3], rtol=1e-6)


def test_clipping_scales_the_whole_gradient():
    tx = make_optimizer("sgd", schedule=optax.constant_schedule(1.0), grad_clip=1.0)
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = step(tx, gradients, gradients)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-1.9 * 0.6, -1.9 * 0.8], rtol=1e-6)


def test_multipliers_scale_the_gradient_step_and_the_weight_decay():
    params = {"encoder": {"stem": jnp.ones((2, 2)), "last": jnp.ones((2, 2))}, "head": jnp.ones((2, 2))}
    multipliers = LearningRateMultipliers((("encoder", 0.5), ("head", 10.0)), layer_decay=0.8, layers=("stem", "last"))
    tx = make_optimizer("adamw", schedule=optax.constant_schedule(0.1), weight_decay=0.5, multipliers=multipliers)
    updates, _ = step(tx, params, params)
    whole = -0.1 * 1.5  # a step of the learning rate, and half of the parameter's value
    np.testing.assert_allclose(updates["encoder"]["last"], whole * 0.5 * 0.8, rtol=1e-5)
    np.testing.assert_allclose(updates["encoder"]["stem"], whole * 0.5 * 0.64, rtol=1e-5)
    np.testing.assert_allclose(updates["head"], whole * 10, rtol=1e-5)


def rates_by_loss(losses, warmup_steps=0, **options):
    """Returns the learning rate of each step."""
    schedule = make_schedule(
        "plateau", learning_rate=1.0, warmup_steps=warmup_steps, total_steps=100, options={"factor": 0.5, **options}
    )
    tx = make_optimizer("sgd", schedule=schedule, options={"momentum": 0.0}, grad_clip=10.0)
    params = {"a": jnp.array([1.0])}
    update, state, rates = jax.jit(tx.update), tx.init(params), []
    for loss in losses:
        updates, state = update({"a": jnp.array([1.0])}, state, params, value=jnp.float32(loss))
        rates.append(-float(updates["a"][0]))
    assert float(plateau_multiplier(state)) == rates[-1]
    return rates


def test_a_plateau_of_the_windows_mean_loss_reduces_the_learning_rate():
    # Means of two: 3, 2.8 (improved by less than 0.3), 2.9, 2.95, ...: halved after the third window and the fifth.
    losses = [4, 2, 2.7, 2.9, 2.9, 2.9, 3, 2.9, 3, 3, 3, 3, 3, 3]
    rates = rates_by_loss(losses, patience=2, window=2, min_improvement=0.3, end=0.25)
    assert rates == [1.0] * 5 + [0.5] * 4 + [0.25] * 5


def test_a_plateau_of_negative_losses():
    assert rates_by_loss([-1, -2, -3, -4], patience=1, window=1, min_improvement=0.5) == [1.0] * 4
    assert rates_by_loss([-1, -1.2, -0.9, -0.9], patience=2, window=1, min_improvement=0.5) == [1.0, 1.0, 0.5, 0.5]


def test_a_plateau_ignores_the_losses_of_warm_up():
    rates = rates_by_loss([1.0] * 6, patience=1, window=1, min_improvement=0.5, warmup_steps=3)
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1.0, 0.5, 0.25], rtol=1e-6)


def test_the_plateau_multiplier_of_other_schedules_is_1():
    tx = make_optimizer("adamw", schedule=optax.constant_schedule(1.0))
    assert float(plateau_multiplier(tx.init(PARAMS))) == 1.0


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ArgumentError, match=r"^name = 'adan': unknown; did you mean 'adam'\? Known are "):
        make_optimizer("adan", schedule=optax.constant_schedule(1.0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgd", {"momentum": -3.0}, "^options.momentum = -3.0: must be a number of at least 0 and below 1"),
        ("adamw", {"b1": 1.5}, "^options.b1 = 1.5: must be a number of at least 0 and below 1"),
        ("lamb", {"eps": 0.0}, "^options.eps = 0.0: must be a number above 0"),
        (
            "os.path:join",
            {},
            "^name = 'os.path:join': cannot be called with a schedule",
        ),
    ],
)
def test_wrong_options_and_functions_are_named(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        make_optimizer(name, schedule=optax.constant_schedule(1.0), options=options)
