"""Augmentation: picture and label stay together, strengths of 0 change nothing, the key decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.augment import canvas_size, make_augment
from flaxseg.errors import ConfigError

LEVELS = 40  # of grey between one class and the next


def coded_batch(height=24, width=30, block=6, count=4):
    """Blocks of a few classes; the colour of a pixel is its label times LEVELS."""
    rows, columns = np.arange(height) // block, np.arange(width) // block
    label = np.stack([(rows[:, None] * 2 + columns + i) % 5 for i in range(count)]).astype(np.uint8)
    return {"image": np.repeat(label[..., None] * LEVELS, 3, -1), "label": label}


def run(options, batch, seed=0, crop_size=(24, 30)):
    return jax.jit(make_augment(crop_size=crop_size, **options))(jax.random.key(seed), batch)


def test_strength_zero_is_the_identity():
    batch = coded_batch()
    out = run({}, batch)
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_allclose(out["image"], batch["image"], atol=2e-3)


@pytest.mark.parametrize(("key", "axis"), [("flip", 2), ("flip_vertical", 1)])
def test_a_certain_flip_is_a_flip(key, axis):
    batch = coded_batch()
    out = run({key: 1.0}, batch)
    np.testing.assert_array_equal(out["label"], np.flip(batch["label"], axis))
    np.testing.assert_allclose(out["image"], np.flip(batch["image"], axis), atol=2e-3)


def test_half_of_many_are_flipped():
    batch = {key: np.repeat(value[:1], 400, 0) for key, value in coded_batch().items()}
    out = run({"flip": 0.5}, batch)
    flipped = (np.asarray(out["label"]) == np.flip(batch["label"], 2)).all((1, 2)).sum()
    assert 160 < flipped < 240  # five standard deviations around 200 would be 150..250


@pytest.mark.parametrize("scale", [(1.0, 2.0), (0.5, 1.0), (0.5, 2.0)])
def test_picture_and_label_stay_together(scale):
    batch = coded_batch(48, 60, block=12)
    out = run({"scale": scale, "flip": 0.5, "flip_vertical": 0.5}, batch, seed=3)
    image, label = np.asarray(out["image"][..., 0]), np.asarray(out["label"])
    assert image.shape == (4, 24, 30)
    assert not (label == batch["label"][:, :24, :30]).all()
    inside = label != 255
    # Where the eight pixels around have its label, too, a colour is exactly the label's; elsewhere it is a mixture.
    flat = inside.copy()
    for down, across in np.ndindex(3, 3):
        flat &= np.roll(label, (down - 1, across - 1), (1, 2)) == label
    flat[:, [0, -1]] = flat[:, :, [0, -1]] = False
    assert flat.sum() > 200
    np.testing.assert_allclose(image[flat], label[flat] * float(LEVELS), atol=0.01)


def test_outside_is_black_and_ignored():
    batch = {"image": np.full((3, 16, 16, 3), 200, np.uint8), "label": np.ones((3, 16, 16), np.uint8)}
    out = run({"scale": (0.5, 0.5)}, batch, crop_size=(16, 16))
    label = np.asarray(out["label"])
    assert set(np.unique(label)) == {1, 255}
    np.testing.assert_allclose((label == 1).mean((1, 2)), 0.25, atol=0.07)
    image = np.asarray(out["image"][..., 0])
    assert (image[label == 255] == 0).all()
    np.testing.assert_allclose(image[label == 1], 200, atol=0.01)


def test_zooming_in_loses_nothing_to_ignore():
    out = run({"scale": (1.0, 1.5)}, coded_batch(), seed=5)
    assert (np.asarray(out["label"]) != 255).all()


def test_colour_changes_leave_the_label_and_stay_in_range():
    batch = coded_batch()
    out = run({"brightness": 0.5, "contrast": 0.5, "saturation": 0.5}, batch)
    np.testing.assert_array_equal(out["label"], batch["label"])
    assert 0 <= float(out["image"].min()) <= float(out["image"].max()) <= 255
    assert float(jnp.abs(out["image"] - batch["image"]).max()) > 5


def test_brightness_adds_one_value_to_a_picture():
    batch = {"image": np.full((5, 8, 8, 3), 100, np.uint8), "label": np.zeros((5, 8, 8), np.uint8)}
    shift = np.asarray(run({"brightness": 0.2}, batch, crop_size=(8, 8))["image"]) - 100
    assert np.ptp(shift, axis=(1, 2, 3)).max() < 1e-3
    assert (np.abs(shift) <= 51).all()
    assert len(np.unique(shift[:, 0, 0, 0])) == 5


def test_saturation_keeps_grey():
    batch = coded_batch()  # grey pictures
    np.testing.assert_allclose(run({"saturation": 0.9}, batch)["image"], batch["image"], atol=2e-3)


def test_one_channel_and_four():
    for channels in (1, 4):
        batch = coded_batch()
        batch["image"] = np.repeat(batch["image"][..., :1], channels, -1)
        out = run({"saturation": 0.5, "scale": (1.0, 1.2)}, batch)
        assert out["image"].shape == (4, 24, 30, channels)


def test_the_key_decides():
    batch, options = coded_batch(), {"scale": (0.8, 1.2), "brightness": 0.2}
    first, again, other = (run(options, batch, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["image"], other["image"])


def test_canvas_is_as_large_as_the_largest_zoom():
    assert canvas_size((128, 64), (1.0, 1.5)) == (192, 96)
    assert canvas_size((128, 64), (0.5, 0.8)) == (128, 64)


@pytest.mark.parametrize("options", [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"contrast": -0.1}])
def test_wrong_strengths(options):
    with pytest.raises(ConfigError, match=rf"augment.{next(iter(options))} = "):
        make_augment(crop_size=(8, 8), **options)
