"""Whole runs with the options of `config.data`."""

import jax
import numpy as np
import pytest
from PIL import Image

from flaxseg.config.files import load_config
from flaxseg.errors import DataError
from flaxseg.train.build import build
from flaxseg.train.loop import train_and_evaluate


@pytest.mark.long
def test_a_dataset_cached_on_the_devices_trains_like_one_on_the_host(tmp_path):
    # The tests' compiler flags round the two steps differently (by default they are equal). Adam would divide such
    # errors by gradients that are almost 0.
    overrides = ["augment.scale=(0.9,1.2)", "train.steps=3", "mesh.spatial=2"]
    overrides += ["optimizer.name=sgd", "optimizer.options={}", "optimizer.options.momentum=0.9"]
    states = {}
    for cache in ("none", "device"):
        config = load_config("configs/shapes.py:tiny", [*overrides, f"data.cache={cache}"])
        result = train_and_evaluate(config, tmp_path / cache)
        states[cache] = jax.device_get(result.state.params), result.scores.confusion.counts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), states["none"][0], states["device"][0])
    np.testing.assert_array_equal(states["none"][1], states["device"][1])


@pytest.fixture
def damaged(tmp_path):
    """Returns ten pairs of 16x16 whose lower half is class 1; the images d.png and, held out, h.png are truncated."""
    root = tmp_path / "data"
    for split, stems in (("train", "abcdef"), ("val", "ghij")):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for stem in stems:
            image = np.random.default_rng(ord(stem)).integers(0, 256, (16, 16, 3), np.uint8)
            mask = np.repeat(np.arange(16)[:, None] >= 8, 16, 1).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{stem}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{stem}.png")
    for path in (root / "images/train/d.png", root / "images/val/h.png"):
        path.write_bytes(path.read_bytes()[:200])
    return root


def settings(root, allowed):
    return load_config("configs/shapes.py:tiny", [
        "data.name=folder", f"data.dir={root}", "data.eval_split=val", f"data.skip_bad={allowed}", "train.steps=3",
        "data.sampling=class_balanced", "data.image_size=(16,16)", "data.options={}",
        "data.options.images=images/{split}", "data.options.masks=masks/{split}",
        "data.options.class_names=('sky','ground')", "train.batch_size=8",
    ])  # fmt: skip


def test_damaged_files_are_skipped_counted_and_listed(damaged, tmp_path, capfd):
    result = train_and_evaluate(settings(damaged, 2), tmp_path / "run")
    assert len(result.skipped) == 2
    assert all(
        f"{name}: cannot be decoded" in text for name, text in zip(("d.png", "h.png"), result.skipped, strict=True)
    )
    # Three of the four held-out images are scored, each with half of its pixels in either class.
    assert result.scores.confusion.counts.sum(1).tolist() == [3 * 128, 3 * 128]
    assert "skipped (2 of 2)" in capfd.readouterr().err


def test_damaged_masks_are_skipped_when_class_values_are_inferred(damaged):
    mask = damaged / "masks/train/a.png"
    mask.write_bytes(b"not an image")
    config = settings(damaged, 3)
    del config.data.options["class_names"]
    data = build(config).data
    assert data.train.num_classes == 2
    assert [data.train.source[index]["id"] for index in range(6)] == ["b", "b", "c", "e", "e", "f"]
    assert len(data.bad_examples.messages) == 2


def test_splits_with_different_channels_are_refused_before_training(damaged):
    for path in (damaged / "images/val").iterdir():
        np.save(path.with_suffix(".npy"), np.zeros((16, 16, 5), np.uint8))
        path.unlink()
    with pytest.raises(DataError, match="split 'train' have 3 channels, images of the split 'val' have 5"):
        build(settings(damaged, 2))


def test_more_damaged_files_than_allowed_stop_the_run(damaged, tmp_path):
    with pytest.raises(DataError, match=r"(?s)2 examples cannot be read, and skip_bad = 1.*d\.png.*h\.png"):
        train_and_evaluate(settings(damaged, 1), tmp_path / "run")
    with pytest.raises(DataError, match=r"^[^\n]*d\.png: cannot be decoded[^\n]*\n`flaxseg inspect`, with the same"):
        train_and_evaluate(settings(damaged, 0), tmp_path / "other")
