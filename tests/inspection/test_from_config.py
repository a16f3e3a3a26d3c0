"""What an inspection takes from a configuration: batches as training sees them."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.data import pipeline
from flaxseg.data.splits import open_dataset
from flaxseg.inspection import from_config
from flaxseg.inspection.from_config import augmented_batches, dataset_to_inspect
from flaxseg.train.step import train_step


def test_the_layout_of_a_published_dataset_is_that_of_its_options():
    found = dataset_to_inspect(load_config("voc", ["data.options.masks=SegmentationClassAug"])).layout
    assert found == {
        "images": "JPEGImages",
        "masks": "SegmentationClassAug",
        "split_list": "ImageSets/Segmentation/{split}.txt",
    }
    assert dataset_to_inspect(load_config("camvid", [])).layout == {"images": "{split}", "masks": "{split}annot"}
    assert dataset_to_inspect(load_config("shapes", [])).layout == {}


def test_batches_shown_are_those_of_training(monkeypatch):
    """The augmentation of each step uses the random key that the training step would use."""
    config = load_config("configs/shapes.py:tiny")
    train = open_dataset("shapes", "train", options=config.data.options)

    def augment(key, batch):
        return {**batch, "image": jax.random.uniform(key, batch["image"].shape)}

    class Augmented(Exception):
        pass

    def raise_augmented(key, batch):
        raise Augmented(augment(key, batch)["image"])

    monkeypatch.setattr(from_config, "build_augmentation", lambda config, channels: augment)
    batches = pipeline.train_batches(train, canvas_size=(32, 32), batch_size=16, seed=config.seed)
    run_key = jax.random.fold_in(jax.random.key(config.seed), 1)
    for step, shown in enumerate(itertools.islice(augmented_batches(config, train), 2)):
        state = types.SimpleNamespace(step=jnp.int32(step))
        with pytest.raises(Augmented) as stopped:
            train_step(state, batches[step], run_key, model=None, loss_fn=None, tx=None, augment_fn=raise_augmented)
        np.testing.assert_array_equal(shown["image"], stopped.value.args[0])
        np.testing.assert_array_equal(shown["label"], batches[step]["label"])
