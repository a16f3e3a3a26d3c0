"""Color changes: by hand where possible, their invariants, and their ranges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.augment.color import COLOR, ineffective_changes, make_color_transform
from flaxseg.errors import ArgumentError

KEY = jax.random.key(3)
STRENGTHS = {"gray": 1.0, "dropout": 1.0, "blur": 3.0}


@pytest.fixture(scope="module")
def images():
    """64 images of 12x10 with values 40..200, so that small changes are not clipped."""
    return jax.random.uniform(jax.random.key(0), (64, 12, 10, 3), minval=40, maxval=200)


def changed(image, key=KEY, **strengths):
    return np.asarray(compiled(tuple(strengths.items()))(key, image))


@functools.cache
def compiled(strengths):
    return jax.jit(make_color_transform(**dict(strengths)))


def test_strength_zero_is_the_identity(images):
    np.testing.assert_array_equal(changed(images, **dict.fromkeys(COLOR, 0.0)), images)


@pytest.mark.parametrize("name", COLOR)
def test_every_change_differs_between_images_and_stays_in_range(images, name):
    out = changed(images, **{name: STRENGTHS.get(name, 0.5)})
    assert out.shape == images.shape and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 255
    difference = np.abs(out - images).max((1, 2, 3))
    assert (difference > 0.5).mean() > 0.8
    assert len(np.unique(difference.round(3))) > 30


@pytest.mark.parametrize("name", COLOR)
def test_the_key_determines_the_result_for_any_number_of_channels(images, name):
    strength = {name: 0.5}
    np.testing.assert_array_equal(changed(images, **strength), changed(images, **strength))
    assert (changed(images, **strength) != changed(images, key=jax.random.key(4), **strength)).any()
    for channels in (1, 4):
        image = jnp.repeat(images[..., :1], channels, -1)
        out = changed(image, **strength)
        assert out.shape == image.shape
        if name in ("saturation", "hue", "gray"):
            np.testing.assert_allclose(out, image, rtol=1e-6)


@pytest.mark.parametrize("name", ["saturation", "hue", "gray"])
def test_gray_images_keep_their_values(images, name):
    image = jnp.repeat(images[..., :1], 3, -1)
    np.testing.assert_allclose(changed(image, **{name: 0.5}), image, atol=2e-4)


def test_gray_is_the_weighted_sum_of_the_channels():
    image = jnp.tile(jnp.array([100.0, 50.0, 200.0]), (1, 2, 2, 1))
    np.testing.assert_allclose(changed(image, gray=1.0), 0.299 * 100 + 0.587 * 50 + 0.114 * 200, rtol=1e-5)


def test_gray_applies_with_its_probability(images):
    many = jnp.tile(images, (8, 1, 1, 1))
    gray = (np.ptp(changed(many, gray=0.25), axis=-1) < 1e-3).all((1, 2)).mean()
    assert 0.15 < gray < 0.35


def test_hue_keeps_each_pixels_mean_and_distance_from_gray(images):
    image = 120 + (images - 120) * 0.4  # so that no rotated color leaves 0..255
    out = changed(image, hue=0.5)
    np.testing.assert_allclose(out.mean(-1), image.mean(-1), atol=1e-2)
    distance = [np.linalg.norm(x - x.mean(-1, keepdims=True), axis=-1) for x in (np.asarray(out), np.asarray(image))]
    np.testing.assert_allclose(*distance, atol=1e-2)


def test_a_third_of_a_turn_maps_red_to_green_or_blue():
    turn = 1 / 3
    image = jnp.tile(jnp.array([150.0, 60.0, 60.0]), (4096, 1, 1, 1))
    out = changed(image, hue=turn)[:, 0, 0]
    nearest = [np.abs(out - np.array(color)).max(1).min() for color in ([60, 150, 60], [60, 60, 150], [150, 60, 60])]
    assert max(nearest) < 1.0


def test_the_range_of_gamma(images):
    out = changed(jnp.full((4096, 1, 1, 1), 64.0), gamma=1.0).ravel()
    assert out.min() == pytest.approx(255 * (64 / 255) ** 2, rel=0.01)
    assert out.max() == pytest.approx(255 * (64 / 255) ** 0.5, rel=0.01)
    ends = changed(jnp.tile(jnp.array([0.0, 255.0]), (8, 1, 1, 1)), gamma=1.0)
    np.testing.assert_allclose(ends[..., 1], 255, rtol=1e-5)
    assert ends[..., 0].max() < 1


def test_contrast_keeps_the_mean_and_brightness_the_differences(images):
    np.testing.assert_allclose(changed(images, contrast=0.2).mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=1e-4)
    shift = changed(images, brightness=0.15) - np.asarray(images)
    assert np.ptp(shift, axis=(1, 2, 3)).max() < 1e-3
    assert np.abs(shift).max() <= 0.15 * 255


def test_blur_of_a_point_is_a_gaussian():
    image = jnp.zeros((256, 21, 21, 1)).at[:, 10, 10].set(255.0)
    out = changed(image, blur=2.0)[..., 0].astype(np.float64)
    np.testing.assert_allclose(out.sum((1, 2)), 255, rtol=1e-4)
    rows = np.arange(21) - 10
    deviation = np.sqrt((out.sum(2) * rows**2).sum(1) / 255)
    assert deviation.min() < 0.1 and 1.9 < deviation.max() < 2.01
    np.testing.assert_allclose(out, out.transpose(0, 2, 1), atol=1e-3)
    widest = out[deviation.argmax(), 10]
    np.testing.assert_allclose(widest[11] / widest[10], np.exp(-0.5 / deviation.max() ** 2), rtol=0.01)


def test_blur_replicates_the_edges():
    np.testing.assert_allclose(changed(jnp.full((8, 9, 9, 3), 90.0), blur=1.5), 90, rtol=1e-5)


def test_noise_has_the_given_deviation():
    out = changed(jnp.full((512, 16, 16, 3), 128.0), noise=0.1)
    deviation = out.std((1, 2, 3))
    assert deviation.max() == pytest.approx(25.5, rel=0.1)
    assert deviation.mean() == pytest.approx(25.5 / 2, rel=0.1)
    assert np.abs(out.mean() - 128) < 0.2


def test_dropout_hides_one_rectangle_in_the_mean_color(images):
    out = changed(images, dropout=0.5)
    hidden = (np.abs(out - np.asarray(images.mean((1, 2), keepdims=True))) < 1e-3).all(-1)
    for one in hidden:
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, rows[:, None] & columns[None])
        for line, size in ((rows, 12), (columns, 10)):
            assert line.sum() <= np.ceil(size / 2)
            assert np.abs(np.diff(line.astype(int))).sum() <= 2
    assert hidden.any((1, 2)).mean() > 0.5


def test_strengths_out_of_range_and_unknown_names():
    with pytest.raises(ArgumentError, match="^hue = -1: must be a number of at least 0"):
        make_color_transform(hue=-1)
    with pytest.raises(ArgumentError, match="^gray = 2: must be a number from 0 to 1"):
        make_color_transform(gray=2)
    with pytest.raises(ArgumentError, match="^hew = 0.1: unknown color change; did you mean 'hue'"):
        make_color_transform(hew=0.1)


def test_changes_without_an_effect_on_images_without_rgb_are_listed():
    strengths = {"saturation": 0.2, "gray": 0.1, "hue": 0.0, "contrast": 0.2}
    assert (
        ineffective_changes(strengths, channels=1)
        == ineffective_changes(strengths, channels=5)
        == ["saturation", "gray"]
    )
    assert ineffective_changes(strengths, channels=3) == []
