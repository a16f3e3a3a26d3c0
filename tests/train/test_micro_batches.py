"""Micro-batches: a step on them equals a step on the whole batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import StepOptions, create_train_state, train_step, weighted_sum
from flaxseg.errors import ArgumentError
from flaxseg.models import plain_unet
from flaxseg.train import sharding
from flaxseg.train.hard_examples import hardest_examples

KEY = jax.random.key(0)
# Neither is a mean over micro-batches: ignored pixels are spread unevenly, and Dice divides sums of the whole batch.
LOSS = weighted_sum({"cross_entropy": 1.0, "dice": 1.0})


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(3), 2)
    label = jax.random.randint(keys[1], (8, 16, 16), 0, 3).astype(jnp.uint8)
    return {
        "image": jax.random.randint(keys[0], (8, 16, 16, 3), 0, 256).astype(jnp.uint8),
        "label": jnp.where(jnp.arange(16)[:, None] < 2 * jnp.arange(8)[:, None, None], 255, label).astype(jnp.uint8),
    }


def one_step(model, batch, mesh=None, **options):
    tx = optax.sgd(0.1)
    state = jax.jit(partial(create_train_state, model=model, tx=tx))(KEY, batch["image"])
    if mesh is not None:
        batch = sharding.place_batch(jax.tree.map(np.asarray, batch), mesh)
    step = jax.jit(partial(train_step, model=model, loss_fn=LOSS, tx=tx, options=StepOptions(**options)))
    new, metrics = step(state, batch, KEY)
    return jax.device_get(new), metrics.compute()


def difference(a, b):
    """Returns the largest difference of two trees, relative to the largest value of the first."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(a))
    return max(np.abs(x - y).max() for x, y in pairs) / largest


@pytest.fixture(scope="module")
def without_batch_norm(batch):
    model = plain_unet(num_classes=3, width=4, depth=1, norm="group")
    return model, one_step(model, batch)


@pytest.mark.parametrize(
    ("parts", "devices"),
    [(2, 1), *(pytest.param(*case, marks=pytest.mark.long) for case in ((8, 1), (2, 4)))],
)
def test_a_step_on_micro_batches_equals_one_on_the_whole_batch(batch, without_batch_norm, parts, devices):
    model, (whole, metrics) = without_batch_norm
    mesh = sharding.make_mesh(data=devices) if devices > 1 else None
    new, found = one_step(model, batch, mesh, accumulate_steps=parts)
    assert difference(whole.params, new.params) < 1e-5
    assert found == pytest.approx(metrics, rel=1e-5)


def test_batch_norm_normalizes_each_micro_batch_by_its_own_statistics(batch):
    """The running averages are updated once for each micro-batch."""
    model = plain_unet(num_classes=3, width=4, depth=1)
    whole, metrics = one_step(model, batch)
    new, found = one_step(model, batch, accumulate_steps=4)
    assert found["loss"] == pytest.approx(metrics["loss"], rel=0.05)
    assert 1e-3 < difference(whole.params, new.params) < 0.1
    means = [jax.tree.leaves(state.batch_stats)[0] for state in (whole, new)]
    # The first layer sees the same images: 4 updates by 0.1 towards means that average to the whole batch's.
    np.testing.assert_allclose(means[1], means[0] / 0.1 * (1 - 0.9**4), rtol=0.2, atol=1e-3)


def test_options_that_do_not_fit_are_refused(batch):
    model, tx = plain_unet(num_classes=3, width=4, depth=1), optax.adamw(0.1)
    state = jax.eval_shape(partial(create_train_state, model=model, tx=tx), KEY, batch["image"])
    for options, message in (
        (StepOptions(accumulate_steps=3), "accumulate_steps = 3: does not divide the batch of 8"),
        (
            StepOptions(metrics_fn=hardest_examples(LOSS, 2)),
            r"batch = \['image', 'label'\]: hardest_examples needs `index`",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            jax.eval_shape(partial(train_step, model=model, loss_fn=LOSS, tx=tx, options=options), state, batch, KEY)
