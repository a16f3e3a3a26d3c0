"""The contract of every loss in LOSSES, on random images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from representatives import representatives

from flaxseg.errors import ArgumentError
from flaxseg.losses import LOSSES

NUM_CLASSES = 3
SHAPE = (8, 6, 6)
IGNORED = 255

ONE_LOGIT = {"binary_cross_entropy", "binary_focal", "lovasz_hinge"}
"""Losses with one sigmoid or hinge per class, which accept a single logit; all others use a softmax."""

SPATIAL = {"boundary", "cldice"}
"""Losses that depend on the positions of pixels in their image."""

every_loss = pytest.mark.parametrize("name", LOSSES)
few_seeds = settings(deadline=None, max_examples=4, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


@functools.cache
def value_and_gradient(name):
    """Compiled once per loss, and once more per sharding of its arguments."""
    return jax.jit(jax.value_and_grad(LOSSES[name]))


def evaluate(name, logits, label):
    value, gradient = value_and_gradient(name)(np.asarray(logits, np.float32), np.asarray(label, np.uint8))
    return np.asarray(value), np.asarray(gradient)


def assert_same(found, expected):
    """Checks that values and gradients agree up to float32 rounding of sums of a few hundred pixels."""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


def random_images(seed):
    """Returns random logits and labels; a fifth of the pixels are ignored, but none of the first image."""
    random = np.random.default_rng(seed)
    logits = (2 * random.normal(size=(*SHAPE, NUM_CLASSES))).astype(np.float32)
    label = random.integers(0, NUM_CLASSES, SHAPE, np.uint8)
    label[1:][random.random(label[1:].shape) < 0.2] = IGNORED
    return logits, label, random


def confident(label, scale=20.0):
    """Returns logits of confident predictions of a label, float32[..., K]."""
    return np.float32(scale) * (2 * (label[..., None] == np.arange(NUM_CLASSES)) - 1)


@every_loss
@few_seeds
@given(seed=seeds)
def test_ignored_pixels_have_no_effect_and_zero_gradient(name, seed):
    logits, label, random = random_images(seed)
    value, gradient = evaluate(name, logits, label)
    assert value.dtype == np.float32 and value.shape == ()
    assert (gradient[label == IGNORED] == 0).all() and (gradient != 0).any()
    anything = random.choice(np.float32([np.inf, -np.inf, 1e30, -1e4, 0]), logits.shape)
    changed = evaluate(name, np.where((label == IGNORED)[..., None], anything, logits), label)
    np.testing.assert_array_equal(changed[0], value)
    np.testing.assert_array_equal(changed[1], gradient)


@every_loss
def test_loss_and_gradient_are_zero_if_all_pixels_are_ignored(name):
    logits, label, _ = random_images(0)
    value, gradient = evaluate(name, logits, np.full_like(label, IGNORED))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - SPATIAL))
@pytest.mark.parametrize("seed", range(4))  # fixed, because the Lovasz gradients of equal errors depend on the order
def test_the_order_of_pixels_does_not_matter(name, seed):
    logits, label, random = random_images(seed)
    value, gradient = evaluate(name, logits, label)
    order = random.permuted(np.arange(label.size).reshape(len(label), -1), axis=1)[random.permutation(len(label))]
    reorder = lambda x: x.reshape(label.size, *x.shape[3:])[order.reshape(label.shape)]  # noqa: E731
    assert_same(evaluate(name, reorder(logits), reorder(label)), (value, reorder(gradient)))


@pytest.mark.parametrize("name", sorted(SPATIAL))
@pytest.mark.parametrize(
    "move",
    [lambda x: np.roll(x, 3, axis=0), lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x.swapaxes(1, 2)],
    ids=["reordered images", "upside down", "mirrored", "transposed"],
)
def test_the_order_and_orientation_of_images_do_not_matter(name, move):
    logits, label, _ = random_images(1)
    value, gradient = evaluate(name, logits, label)
    assert_same(evaluate(name, move(logits), move(label)), (value, move(gradient)))


@pytest.mark.parametrize("name", representatives(LOSSES, ("cross_entropy", "dice", "lovasz_softmax", "cldice")))
def test_eight_devices_compute_what_one_device_computes(name):
    logits, label, _ = random_images(2)
    placement = NamedSharding(Mesh(np.array(jax.devices()), "data"), PartitionSpec("data"))
    assert placement.num_devices == 8
    found = value_and_gradient(name)(jax.device_put(logits, placement), jax.device_put(label, placement))
    assert found[1].sharding.is_equivalent_to(placement, logits.ndim)
    assert_same(found, evaluate(name, logits, label))


@every_loss
@few_seeds
@given(seed=seeds)
def test_value_and_gradient_are_always_finite(name, seed):
    logits, label, random = random_images(seed)
    absent = random.integers(NUM_CLASSES)
    without = np.where(label == absent, (absent + 1) % NUM_CLASSES, label)
    alone = np.where(label == IGNORED, IGNORED, absent)
    extreme = random.choice(np.float32([1e4, -1e4]), logits.shape)
    for given_logits in (logits, extreme, confident(label, 1e4), confident((label + 1) % NUM_CLASSES, 1e4)):
        for given_label in (label, without, alone):
            value, gradient = evaluate(name, given_logits, given_label)
            assert np.isfinite(value) and np.isfinite(gradient).all()


@every_loss
def test_other_dtypes_give_the_same_loss_and_out_of_range_labels_nan(name):
    logits, label, _ = random_images(3)
    rounded = jnp.asarray(logits, jnp.bfloat16)
    loss = jax.jit(LOSSES[name])
    value = loss(rounded, label.astype(np.int32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, evaluate(name, rounded.astype(jnp.float32), label)[0], rtol=1e-6)
    for wrong in (-1, 300):
        wrong_label = label.astype(np.int32)
        wrong_label[0, 0, 0] = wrong
        assert np.isnan(loss(rounded, wrong_label))
    for wrong in (NUM_CLASSES, 254):
        wrong_label = label.copy()
        wrong_label[0, 0, 0] = wrong
        assert np.isnan(evaluate(name, logits, wrong_label)[0])


@every_loss
def test_a_single_logit(name):
    logits, label = jnp.ones((*SHAPE, 1)), jnp.zeros(SHAPE, jnp.uint8)
    if name in ONE_LOGIT:
        right, wrong = (jax.jit(LOSSES[name])(logits, label + k) for k in (1, 0))
        assert 0 <= right < wrong
    else:
        with pytest.raises(ArgumentError, match=f"num_classes = 1: {name} needs logits of at least two classes"):
            jax.eval_shape(LOSSES[name], logits, label)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - ONE_LOGIT))
@few_seeds
@given(seed=seeds)
def test_a_constant_added_to_all_logits_of_a_pixel_has_no_effect(name, seed):
    logits, label, random = random_images(seed)
    shifted = logits + random.normal(size=(*SHAPE, 1)).astype(np.float32)
    assert_same(evaluate(name, shifted, label), evaluate(name, logits, label))


@every_loss
@few_seeds
@given(seed=seeds)
def test_correct_predictions_have_the_lowest_loss(name, seed):
    logits, label, _ = random_images(seed)
    right, _ = evaluate(name, confident(label), label)
    assert right < evaluate(name, logits, label)[0]
    assert right < evaluate(name, confident((label + 1) % NUM_CLASSES), label)[0]
    if name != "boundary":  # its minimum depends on the label
        assert abs(right) < 1e-5
