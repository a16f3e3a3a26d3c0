"""Changes of color: by hand where they can be, their invariants, and their ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.augment.color import CHANGES, PROBABILITIES, make_recolor, without_effect
from flaxseg.errors import ConfigError

KEY = jax.random.key(3)
STRENGTHS = {**dict.fromkeys(PROBABILITIES, 1.0), "blur": 3.0}


@pytest.fixture(scope="module")
def pictures():
    """64 pictures of 12x10 with values 40..200, away from where clipping would show."""
    return jax.random.uniform(jax.random.key(0), (64, 12, 10, 3), minval=40, maxval=200)


def changed(image, key=KEY, **strengths):
    return np.asarray(make_recolor(**strengths)(key, image))


def test_strength_zero_is_the_identity(pictures):
    np.testing.assert_array_equal(changed(pictures, **dict.fromkeys(CHANGES, 0.0)), pictures)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_each_picture_its_own_way_within_range(pictures, name):
    out = changed(pictures, **{name: STRENGTHS.get(name, 0.5)})
    assert out.shape == pictures.shape and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 255
    difference = np.abs(out - pictures).max((1, 2, 3))
    assert (difference > 0.5).mean() > 0.8
    assert len(np.unique(difference.round(3))) > 30


@pytest.mark.parametrize("name", CHANGES)
def test_the_key_decides_and_pictures_of_other_channels_are_taken(pictures, name):
    strength = {name: 0.5}
    np.testing.assert_array_equal(changed(pictures, **strength), changed(pictures, **strength))
    assert (changed(pictures, **strength) != changed(pictures, key=jax.random.key(4), **strength)).any()
    for channels in (1, 4):
        image = jnp.repeat(pictures[..., :1], channels, -1)
        out = changed(image, **strength)
        assert out.shape == image.shape
        if name in ("saturation", "hue", "gray"):
            np.testing.assert_allclose(out, image, rtol=1e-6)


@pytest.mark.parametrize("name", ["saturation", "hue", "gray"])
def test_gray_pictures_keep_their_values(pictures, name):
    image = jnp.repeat(pictures[..., :1], 3, -1)
    np.testing.assert_allclose(changed(image, **{name: 0.5}), image, atol=2e-4)


def test_gray_is_the_weighted_sum():
    image = jnp.tile(jnp.array([100.0, 50.0, 200.0]), (1, 2, 2, 1))
    np.testing.assert_allclose(changed(image, gray=1.0), 0.299 * 100 + 0.587 * 50 + 0.114 * 200, rtol=1e-5)


def test_gray_takes_its_share_of_pictures(pictures):
    many = jnp.tile(pictures, (8, 1, 1, 1))
    gray = (np.ptp(changed(many, gray=0.25), axis=-1) < 1e-3).all((1, 2)).mean()
    assert 0.15 < gray < 0.35


def test_hue_keeps_each_pixels_mean_and_distance_from_gray(pictures):
    image = 120 + (pictures - 120) * 0.4  # nothing turns out of 0..255
    out = changed(image, hue=0.5)
    np.testing.assert_allclose(out.mean(-1), image.mean(-1), atol=1e-2)
    distance = [np.linalg.norm(x - x.mean(-1, keepdims=True), axis=-1) for x in (np.asarray(out), np.asarray(image))]
    np.testing.assert_allclose(*distance, atol=1e-2)


def test_a_third_of_a_circle_moves_red_to_green_or_blue():
    turn = 1 / 3
    image = jnp.tile(jnp.array([150.0, 60.0, 60.0]), (4096, 1, 1, 1))
    out = changed(image, hue=turn)[:, 0, 0]
    nearest = [np.abs(out - np.array(color)).max(1).min() for color in ([60, 150, 60], [60, 60, 150], [150, 60, 60])]
    assert max(nearest) < 1.0


def test_gamma_by_its_ends(pictures):
    out = changed(jnp.full((4096, 1, 1, 1), 64.0), gamma=1.0).ravel()
    assert out.min() == pytest.approx(255 * (64 / 255) ** 2, rel=0.01)
    assert out.max() == pytest.approx(255 * (64 / 255) ** 0.5, rel=0.01)
    ends = changed(jnp.tile(jnp.array([0.0, 255.0]), (8, 1, 1, 1)), gamma=1.0)
    np.testing.assert_allclose(ends[..., 1], 255, rtol=1e-5)
    assert ends[..., 0].max() < 1


def test_contrast_keeps_the_mean_and_brightness_the_differences(pictures):
    np.testing.assert_allclose(changed(pictures, contrast=0.2).mean((1, 2, 3)), pictures.mean((1, 2, 3)), rtol=1e-4)
    shift = changed(pictures, brightness=0.15) - np.asarray(pictures)
    assert np.ptp(shift, axis=(1, 2, 3)).max() < 1e-3
    assert np.abs(shift).max() <= 0.15 * 255


def test_blur_spreads_a_point_as_a_gaussian_does():
    image = jnp.zeros((256, 21, 21, 1)).at[:, 10, 10].set(255.0)
    out = changed(image, blur=2.0)[..., 0].astype(np.float64)
    np.testing.assert_allclose(out.sum((1, 2)), 255, rtol=1e-4)
    rows = np.arange(21) - 10
    deviation = np.sqrt((out.sum(2) * rows**2).sum(1) / 255)
    assert deviation.min() < 0.1 and 1.9 < deviation.max() < 2.01
    np.testing.assert_allclose(out, out.transpose(0, 2, 1), atol=1e-3)
    widest = out[deviation.argmax(), 10]
    np.testing.assert_allclose(widest[11] / widest[10], np.exp(-0.5 / deviation.max() ** 2), rtol=0.01)


def test_blur_continues_the_edges():
    np.testing.assert_allclose(changed(jnp.full((8, 9, 9, 3), 90.0), blur=1.5), 90, rtol=1e-5)


def test_noise_has_the_deviation_asked_for():
    out = changed(jnp.full((512, 16, 16, 3), 128.0), noise=0.1)
    deviation = out.std((1, 2, 3))
    assert deviation.max() == pytest.approx(25.5, rel=0.1)
    assert deviation.mean() == pytest.approx(25.5 / 2, rel=0.1)
    assert np.abs(out.mean() - 128) < 0.2


def test_dropout_hides_one_rectangle_in_the_mean_color(pictures):
    out = changed(pictures, dropout=0.5)
    hidden = (np.abs(out - np.asarray(pictures.mean((1, 2), keepdims=True))) < 1e-3).all(-1)
    for one in hidden:
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, rows[:, None] & columns[None])
        for line, size in ((rows, 12), (columns, 10)):
            assert line.sum() <= np.ceil(size / 2)
            assert np.abs(np.diff(line.astype(int))).sum() <= 2
    assert hidden.any((1, 2)).mean() > 0.5


def test_wrong_strengths_and_names():
    with pytest.raises(ConfigError, match="augment.hue = -1: must be at least 0"):
        make_recolor(hue=-1)
    with pytest.raises(ConfigError, match="augment.gray = 2: must be a probability, 0 to 1"):
        make_recolor(gray=2)
    with pytest.raises(ConfigError, match="config.augment = 'hew': unknown.*did you mean 'hue'"):
        make_recolor(hew=0.1)


def test_changes_of_colors_are_told_for_pictures_without_any():
    strengths = {"saturation": 0.2, "gray": 0.1, "hue": 0.0, "contrast": 0.2}
    assert without_effect(strengths, channels=1) == without_effect(strengths, channels=5) == ["saturation", "gray"]
    assert without_effect(strengths, channels=3) == []
