"""Ensembles: the average of their members' probabilities, however they are grouped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.inference.ensemble import Ensemble, Member, ensemble_logits
from flaxseg.inference.forward import inference_logits
from flaxseg.inference.tta import TTA, tta_probabilities
from flaxseg.inference.uncertainty import entropy
from flaxseg.models import plain_unet

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3)).astype(np.float32)
NARROW, WIDE = (plain_unet(num_classes=3, width=width, depth=1) for width in (4, 6))


@functools.cache
def variables(model, seed):
    made = jax.device_get(compiled(model)[0](jax.random.key(seed), IMAGE))
    return jax.tree.map(
        lambda leaf: leaf + np.cos(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape) / 10, made
    )


@functools.cache
def compiled(model):
    """Returns the jitted functions that make the variables of a network, and that compute its logits."""
    return jax.jit(functools.partial(model.init, train=False)), jax.jit(
        functools.partial(inference_logits, model=model)
    )


def logits_of(model, seed):
    return compiled(model)[1](variables(model, seed), IMAGE)


def softmax(model, seed, temperature=1.0):
    return jax.nn.softmax(logits_of(model, seed) / temperature)


def averaged(groups, ensemble):
    """Returns the logits of an ensemble, compiled as a whole."""
    return jax.jit(functools.partial(ensemble_logits, ensemble=ensemble))(groups, IMAGE, None)


def test_a_single_network_keeps_its_logits():
    found = averaged([variables(NARROW, 0)], Ensemble((Member(NARROW, 3.0),)))
    np.testing.assert_array_equal(found, logits_of(NARROW, 0))
    found = averaged([variables(NARROW, 0)], Ensemble((Member(NARROW),), with_disagreement=True))
    assert found.shape == (2, 8, 12, 4) and not found[..., 3].any()


def test_members_are_averaged_as_probabilities():
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), variables(NARROW, 0), variables(NARROW, 1))
    ensemble = Ensemble((Member(NARROW, 2.0, count=2), Member(WIDE)), with_disagreement=True)
    found = averaged([stacked, variables(WIDE, 0)], ensemble)
    each = jnp.stack([softmax(NARROW, 0, 2.0), softmax(NARROW, 1, 2.0), softmax(WIDE, 0)])
    np.testing.assert_allclose(jax.nn.softmax(found[..., :3]), each.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[..., 3], entropy(each.mean(0)) - entropy(each).mean(0), atol=1e-6)
    assert found[..., 3].max() > 1e-3


def test_equal_members_are_one_network_and_agree():
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 3), variables(WIDE, 0))
    found = averaged([stacked], Ensemble((Member(WIDE, count=3),), with_disagreement=True))
    np.testing.assert_allclose(jax.nn.softmax(found[..., :3]), softmax(WIDE, 0), atol=1e-6)
    assert np.abs(found[..., 3]).max() < 1e-6


def test_test_time_augmentation_of_one_network():
    tta = TTA((1.0, 1.5), ("vertical",))
    found = averaged([variables(WIDE, 0)], Ensemble((Member(WIDE, 0.5),), tta))

    def network(image, _):
        return inference_logits(variables(WIDE, 0), image, model=WIDE) / 0.5

    expected = jax.jit(functools.partial(tta_probabilities, network, tta=tta))(IMAGE, None)
    np.testing.assert_allclose(jax.nn.softmax(found), expected, atol=1e-6)


def test_certain_networks_keep_finite_logits():
    def certain(leaves):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + 1e6 * (np.arange(leaf.size) == 0) if path[-2].key == "head" and leaf.ndim == 1
            else leaf, leaves,
        )  # fmt: skip

    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 2), certain(variables(NARROW, 0)))
    found = np.asarray(averaged([stacked], Ensemble((Member(NARROW, count=2),))))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[..., 0], 0, atol=1e-6)


@pytest.mark.parametrize(("tta", "single"), [(TTA(), True), (TTA((2.0,)), False), (TTA(flips=("both",)), False)])
def test_which_ensembles_are_a_single_network(tta, single):
    assert Ensemble((Member(WIDE),), tta).is_single is single
    assert not Ensemble((Member(WIDE, count=2),)).is_single
    assert not Ensemble((Member(WIDE), Member(NARROW))).is_single
