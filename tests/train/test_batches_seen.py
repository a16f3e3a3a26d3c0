"""Batches outside of the training step are those that the network sees in it, and so are their gradients."""

import functools

import jax
import numpy as np
import optax
import pytest

from flaxseg.config.files import load_config
from flaxseg.train.batches_seen import BatchesSeen
from flaxseg.train.build import build
from flaxseg.train.sharding import place_batch
from flaxseg.train.step import StepOptions, create_train_state, train_step

OVERRIDES = ["augment.scale=(0.7,1.3)", "augment.flip=0.5", "augment.brightness=0.2", "augment.cutmix=0.5"]


@pytest.fixture(scope="module")
def step():
    """Returns a run, its state before step 3, the state after it with plain gradient descent, and what it was fed."""
    run = build(load_config("configs/shapes.py:tiny", OVERRIDES))
    tx, options = optax.sgd(1.0), StepOptions(metrics_fn=lambda logits, batch: dict(batch))
    state = create_train_state(jax.random.key(0), run.model.image, model=run.model.module, tx=tx)
    state = state.replace(step=state.step + 3)
    take = functools.partial(
        train_step,
        model=run.model.model,
        loss_fn=run.optim.loss_fn,
        tx=tx,
        augment_fn=run.optim.augment_fn,
        options=options,
    )
    batch = place_batch(run.data.train_batches[3], run.loop.mesh)
    after, metrics = jax.jit(take)(state, batch, run.loop.step_key)
    return run, state, after, metrics.extra


def test_images_are_those_that_the_step_sees(step):
    run, _, _, fed = step
    batches = BatchesSeen(run)
    images, labels = batches.images(3, 5)
    np.testing.assert_array_equal(labels, fed["label"][:5])
    np.testing.assert_allclose(images, fed["image"][:5], atol=1e-3)
    others, _ = batches.images(4, 5)
    assert np.abs(others - images).mean() > 1
    assert len(batches.images(3, 999)[0]) == 16
    # Examples are read larger than they are shown, so that a crop of them stays sharp.
    assert images.shape[1:3] == (32, 32) and run.data.train_batches[3]["image"].shape[1:3] == (42, 42)


def test_the_gradient_is_that_of_the_next_step(step):
    run, state, after, _ = step
    gradient = BatchesSeen(run).gradient(state)
    taken = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), state.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, taken)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(taken)) > 1e-2


def test_batches_are_shown_as_they_are_without_augmentation():
    run = build(load_config("configs/shapes.py:tiny", []))
    images, labels = BatchesSeen(run).images(0, 3)
    expected = run.data.train_batches[0]
    np.testing.assert_array_equal(images, expected["image"][:3])
    np.testing.assert_array_equal(labels, expected["label"][:3])
