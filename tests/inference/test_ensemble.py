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
    made = jax.jit(functools.partial(model.init, train=False))(jax.random.key(seed), IMAGE)
    return jax.tree.map(lambda leaf: np.asarray(leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)), made)


def softmax(model, seed, temperature=1.0):
    return jax.nn.softmax(inference_logits(variables(model, seed), IMAGE, model=model) / temperature)


def test_a_single_network_keeps_its_logits():
    found = ensemble_logits([variables(NARROW, 0)], IMAGE, None, ensemble=Ensemble((Member(NARROW, 3.0),)))
    np.testing.assert_array_equal(found, inference_logits(variables(NARROW, 0), IMAGE, model=NARROW))
    ensemble = Ensemble((Member(NARROW),), with_disagreement=True)
    found = ensemble_logits([variables(NARROW, 0)], IMAGE, None, ensemble=ensemble)
    assert found.shape == (2, 8, 12, 4) and not found[..., 3].any()


def test_members_are_averaged_as_probabilities():
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), variables(NARROW, 0), variables(NARROW, 1))
    ensemble = Ensemble((Member(NARROW, 2.0, count=2), Member(WIDE)), with_disagreement=True)
    compute = jax.jit(functools.partial(ensemble_logits, ensemble=ensemble))
    found = compute([stacked, variables(WIDE, 0)], IMAGE, None)
    each = jnp.stack([softmax(NARROW, 0, 2.0), softmax(NARROW, 1, 2.0), softmax(WIDE, 0)])
    np.testing.assert_allclose(jax.nn.softmax(found[..., :3]), each.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[..., 3], entropy(each.mean(0)) - entropy(each).mean(0), atol=1e-6)
    assert found[..., 3].max() > 1e-3


def test_equal_members_are_one_network_and_agree():
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 3), variables(WIDE, 0))
    found = ensemble_logits([stacked], IMAGE, None, ensemble=Ensemble((Member(WIDE, count=3),), with_disagreement=True))
    np.testing.assert_allclose(jax.nn.softmax(found[..., :3]), softmax(WIDE, 0), atol=1e-6)
    assert np.abs(found[..., 3]).max() < 1e-6


def test_test_time_augmentation_of_one_network():
    tta = TTA((1.0, 1.5), ("vertical",))
    found = ensemble_logits([variables(WIDE, 0)], IMAGE, None, ensemble=Ensemble((Member(WIDE, 0.5),), tta))

    def network(image, _):
        return inference_logits(variables(WIDE, 0), image, model=WIDE) / 0.5

    expected = tta_probabilities(network, jnp.asarray(IMAGE), None, tta=tta)
    np.testing.assert_allclose(jax.nn.softmax(found), expected, atol=1e-6)


def test_certain_networks_keep_finite_logits():
    def certain(leaves):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + 1e6 * (np.arange(leaf.size) == 0) if path[-2].key == "head" and leaf.ndim == 1
            else leaf, leaves,
        )  # fmt: skip

    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 2), certain(variables(NARROW, 0)))
    found = np.asarray(ensemble_logits([stacked], IMAGE, None, ensemble=Ensemble((Member(NARROW, count=2),))))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[..., 0], 0, atol=1e-6)


@pytest.mark.parametrize(("tta", "single"), [(TTA(), True), (TTA((2.0,)), False), (TTA(flips=("both",)), False)])
def test_which_ensembles_are_a_single_network(tta, single):
    assert Ensemble((Member(WIDE),), tta).is_single is single
    assert not Ensemble((Member(WIDE, count=2),)).is_single
    assert not Ensemble((Member(WIDE), Member(NARROW))).is_single
