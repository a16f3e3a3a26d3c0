"""Schedules by hand; what decays and what is clipped."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg.errors import ConfigError
from flaxseg.optimizers import decay_mask, make_optimizer, make_schedule

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}


def test_warm_up_then_cosine_by_hand():
    schedule = make_schedule("cosine", learning_rate=0.8, warmup_steps=3, total_steps=11)
    np.testing.assert_allclose([schedule(step) for step in range(4)], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(schedule(7), 0.4, rtol=1e-6)
    np.testing.assert_allclose(schedule(11), 0.0, atol=1e-7)


def test_constant_without_warm_up():
    schedule = make_schedule("constant", learning_rate=0.5, warmup_steps=0, total_steps=10)
    assert [float(schedule(step)) for step in (0, 9)] == [0.5, 0.5]


def test_biases_and_norms_do_not_decay():
    assert decay_mask(PARAMS) == {"kernel": True, "bias": False, "scale": False}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_without_gradient_only_kernels_shrink(name):
    tx = make_optimizer(name, schedule=optax.constant_schedule(0.1), weight_decay=0.5)
    gradients = {key: jnp.zeros_like(value) for key, value in PARAMS.items()}
    updates, _ = tx.update(gradients, tx.init(PARAMS), PARAMS)
    # Nesterov momentum sees the decay as a gradient: 1 + 0.9 of it in the first step.
    shrinkage = -0.1 * 0.5 * (1.9 if name == "sgd" else 1.0)
    np.testing.assert_allclose(updates["kernel"], shrinkage, rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], 0)


def test_adamw_first_step_by_hand():
    tx = make_optimizer("adamw", schedule=optax.constant_schedule(0.1))
    gradients = {"kernel": jnp.array([[1e-3, -5.0]])}
    updates, _ = tx.update(gradients, tx.init(gradients), gradients)
    np.testing.assert_allclose(updates["kernel"], [[-0.1, 0.1]], rtol=1e-4)


def test_clipping_scales_the_whole_gradient():
    tx = make_optimizer("sgd", schedule=optax.constant_schedule(1.0), grad_clip=1.0)
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = tx.update(gradients, tx.init(gradients), gradients)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-1.9 * 0.6, -1.9 * 0.8], rtol=1e-6)


def test_unknown_names():
    with pytest.raises(ConfigError, match="config.optimizer.name = 'adam': unknown. Known are adamw, sgd"):
        make_optimizer("adam", schedule=optax.constant_schedule(1.0))
    with pytest.raises(ConfigError, match="config.optimizer.schedule = 'cos'"):
        make_schedule("cos", learning_rate=1.0, warmup_steps=0, total_steps=1)
