"""Whole runs on images that keep their sizes: trained on crops, evaluated in tiles, every pixel once."""

import functools

import jax
import numpy as np
import pytest
from one_compilation import compile_once
from PIL import Image

from flaxseg.config.files import load_config
from flaxseg.config.validate import errors_in
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.train.build import build
from flaxseg.train.compile import compile_run
from flaxseg.train.evaluation import evaluate
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.state import create_state

SIZES = ((20, 30), (16, 16), (40, 18), (9, 12), (33, 47), (24, 24), (17, 90))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns a folder of images of different sizes; their masks have an ignored row."""
    root = tmp_path_factory.mktemp("images")
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (root / kind / split).mkdir(parents=True)
    for split in ("train", "val"):
        for number, size in enumerate(SIZES):
            random = np.random.default_rng(number)
            mask = (np.indices(size).sum(0) // 6 % 2).astype(np.uint8)
            image = np.clip(mask[..., None] * 120 + random.integers(0, 100, (*size, 3)), 0, 255).astype(np.uint8)
            mask[3] = 255
            Image.fromarray(image).save(root / "images" / split / f"{number}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")
    return root


def settings(root, *overrides):
    return load_config("configs/shapes.py:tiny", [
        "data.name=folder", f"data.dir={root}", "data.eval_split=val", "data.image_size=(16,16)", "data.options={}",
        "data.options.images=images/{split}", "data.options.masks=masks/{split}", "data.options.values=(0,1)",
        "data.options.class_names=('a','b')", "data.resize=keep", "train.batch_size=4", "train.steps=4",
        "eval.every=4", "eval.batch_size=4", "mesh.data=1", "log.images=3", *overrides,
    ])  # fmt: skip


def evaluated(config):
    """Returns the scores of the initial state, and the run, its functions and the state."""
    run = build(config)
    state = create_state(run, None)
    compiled = compile_run(run, state)
    return evaluate(run, compiled, state, shows_images=True), run, compiled, state


def test_evaluation_counts_every_pixel_once_and_equals_a_reference_for_any_batch(images) -> None:
    counts = {}
    for batch_size, devices in ((4, 4), (7, 1), (1, 1)):
        found, run, compiled, state = evaluated(
            settings(images, f"eval.batch_size={batch_size}", f"mesh.data={devices}")
        )
        counts[batch_size] = found.metrics.confusion.counts
    np.testing.assert_array_equal(counts[1], counts[4])
    np.testing.assert_array_equal(counts[1], counts[7])
    assert counts[1].sum() == sum((height - 1) * width for height, width in SIZES)
    network = functools.partial(compiled.logits, state)
    expected = np.zeros((2, 2), np.int64)
    for index in range(len(SIZES)):
        example = run.data.evaluation.source[index]
        prediction = predicted(network, example["image"], 16)
        valid = example["label"] != IGNORE_LABEL
        np.add.at(expected, (example["label"][valid], prediction[valid]), 1)
    # A pixel whose two logits are nearly equal may change its class by rounding.
    assert np.abs(expected - counts[1]).sum() <= 2
    assert [each.prediction.shape for each in found.images] == [SIZES[index] for index in (0, 2, 4)]


def predicted(network, image, side):
    """Returns the classes of one image in blended tiles, with loops in float64."""
    height, width = image.shape[:2]
    canvas = np.zeros((max(height, side), max(width, side), 3), np.uint8)
    canvas[:height, :width] = image
    distance = ((np.arange(side) + 0.5) / side - 0.5) * 8
    along = np.maximum(np.exp(-0.5 * distance**2), 1e-3)
    weight = np.outer(along, along)[..., None]
    total = np.zeros((*canvas.shape[:2], 2))
    weights = np.zeros((*canvas.shape[:2], 1))

    def starts(length):
        return [*range(0, length - side, side // 2), length - side]

    for top in starts(canvas.shape[0]):
        for left in starts(canvas.shape[1]):
            part = np.s_[top : top + side, left : left + side]
            total[part] += weight * np.asarray(network(canvas[part][None]), np.float64)[0]
            weights[part] += weight
    return (total / weights).argmax(-1)[:height, :width]


@pytest.mark.long
def test_images_are_scored_at_their_own_size_when_they_are_scaled(images) -> None:
    found, *_ = evaluated(settings(images, "data.scale=0.7", "mesh.data=2", "mesh.spatial=2"))
    assert found.metrics.confusion.counts.sum() == sum((height - 1) * width for height, width in SIZES)
    assert [each.shape for each in found.images[0][:3]] == [(20, 30, 3), (20, 30), (20, 30)]


def test_a_run_trains_and_a_resumed_one_ends_the_same(images, tmp_path, monkeypatch) -> None:
    compile_once(monkeypatch)
    options = ("augment.scale=(0.5,2.0)", "augment.flip=0.5", "optimizer.schedule=constant", "optimizer.warmup_steps=0")
    whole = train_and_evaluate(settings(images, *options, "data.cache=host"), tmp_path / "whole")
    train_and_evaluate(settings(images, *options, "train.steps=2"), tmp_path / "resumed")
    resumed = train_and_evaluate(settings(images, *options, "data.num_threads=0"), tmp_path / "resumed")
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(r.state.params) for r in (whole, resumed)))
    np.testing.assert_array_equal(whole.scores.confusion.counts, resumed.scores.confusion.counts)
    assert whole.scores.confusion.counts.sum() == sum((height - 1) * width for height, width in SIZES)


def test_what_does_not_go_together_is_one_clear_error_each() -> None:
    def errors(*overrides):
        return errors_in(load_config("configs/shapes.py:tiny", overrides))

    (message,) = errors("data.resize=keep", "data.cache=device")
    assert message.startswith("config.data.cache = 'device': images that keep") and "use data.cache = 'host'" in message
    (message,) = errors("data.resize=keep", "eval.resolution=image_size")
    assert message.startswith("config.eval.resolution = 'image_size': ") and "use 'native'" in message
    (message,) = errors("data.scale=0.5")
    assert message.startswith("config.data.scale = 0.5: images are resized") and "data.resize = 'keep'" in message
    (message,) = errors("data.resize=crop")
    assert "must be one of 'stretch', 'keep'" in message
    assert not errors("data.resize=keep", "data.scale=0.5", "data.cache=host")
