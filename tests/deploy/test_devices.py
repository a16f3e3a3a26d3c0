"""Predictions do not depend on the number of devices."""

import dataclasses

import jax
import numpy as np
import pytest
from saved_run import save_run

import flaxseg
from flaxseg.deploy.network import Network
from flaxseg.deploy.predictor import Predictor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    save_run(directory, scores={2: 0.5}, overrides=["data.options.size=(20,27)"])
    return flaxseg.load(directory).members[0]


@pytest.mark.parametrize("resize", ["stretch", pytest.param("keep", marks=pytest.mark.long)])
def test_images_are_spread_over_the_devices_and_have_the_same_masks(saved, resize):
    assert jax.local_device_count() == 8
    saved = dataclasses.replace(saved, description=dataclasses.replace(saved.description, resize=resize))
    rng = np.random.default_rng(0)
    sizes = [(20, 27)] * 9 + [(70, 90)] + [(31, 17)] * 3
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    expected = Predictor([saved])(images)
    spread = Predictor([saved], batch_size=8)
    for mask, label in zip(spread(images), expected, strict=True):
        np.testing.assert_array_equal(mask, label)
    for found, label in zip(spread.probabilities(images), expected, strict=True):
        np.testing.assert_array_equal(found.argmax(-1), label)


def test_each_device_computes_its_part_of_a_batch(saved):
    network = Network([saved], batch_size=16)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    logits = network.logits(images)
    assert {shard.device for shard in logits.addressable_shards} == set(jax.local_devices())
    assert all(shard.data.shape == (2, 32, 32, 5) for shard in logits.addressable_shards)
    one_by_one = np.concatenate([network.logits(images[index : index + 1]) for index in range(16)])
    np.testing.assert_allclose(logits, one_by_one, atol=1e-5)
    assert len(network.logits(images[:3]).sharding.device_set) == 1
