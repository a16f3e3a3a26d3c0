"""Test-time augmentation by hand, and its symmetries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.inference.tta import TTA, tta_probabilities

IMAGE = jax.random.uniform(jax.random.key(0), (2, 12, 10, 3), maxval=255)


def per_pixel(x, extent=None):
    """Logits that depend on the pixel's own values alone."""
    return x / 50


def shifted(x, axis):
    """Returns images moved by a pixel, with zeros at the border."""
    return jnp.roll(x, 1, axis).at[(slice(None),) * axis + (0,)].set(0)


def directional(x, extent=None):
    """Logits that depend on the pixel to the left and the pixel above."""
    return per_pixel(x) + shifted(x, 2) / 70 + shifted(x, 1) / 90


def probabilities(logits_fn, image, extent=None, *, scales=(1.0,), flips=("horizontal",)):
    compute = functools.partial(tta_probabilities, logits_fn, tta=TTA(tuple(scales), tuple(flips)))
    return jax.jit(compute)(image, extent)


def test_without_augmentation_it_is_the_softmax():
    result = probabilities(directional, IMAGE, flips=())
    expected = jax.jit(lambda image: jax.nn.softmax(directional(image)))(IMAGE)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_flips_do_not_change_a_symmetric_network():
    result = probabilities(per_pixel, IMAGE, flips=("horizontal", "vertical", "both"))
    np.testing.assert_allclose(result, jax.nn.softmax(per_pixel(IMAGE)), rtol=1e-5)


def test_two_views_by_hand():
    flipped = directional(IMAGE[:, :, ::-1])[:, :, ::-1]
    expected = (jax.nn.softmax(directional(IMAGE)) + jax.nn.softmax(flipped)) / 2
    np.testing.assert_allclose(probabilities(directional, IMAGE), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "axis"), [("horizontal", 2), ("vertical", 1)])
def test_a_flipped_image_has_flipped_probabilities(name, axis):
    result = probabilities(directional, IMAGE, flips=(name,), scales=(1.0, 0.5))
    mirrored = probabilities(directional, jnp.flip(IMAGE, axis), flips=(name,), scales=(1.0, 0.5))
    np.testing.assert_allclose(mirrored, jnp.flip(result, axis), rtol=1e-4)


def test_scales_keep_the_size_and_the_sum():
    sizes = []

    def logits_fn(x, extent):
        sizes.append(x.shape[1:3])
        return per_pixel(x)

    result = jax.jit(lambda x: probabilities(logits_fn, x, scales=(0.5, 1.0, 1.26)))(IMAGE)
    assert result.shape == IMAGE.shape
    assert sizes == [(6, 5)] * 2 + [(12, 10)] * 2 + [(15, 13)] * 2
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-5)


def test_a_constant_image_is_the_same_at_each_scale():
    image = jnp.broadcast_to(jnp.array([10.0, 80.0, 200.0]), (1, 9, 7, 3))
    result = probabilities(per_pixel, image, scales=(0.5, 0.75, 2.0))
    np.testing.assert_allclose(result, jax.nn.softmax(per_pixel(image)), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"scales": ()}, "at least one factor"),
        ({"scales": (1.0, 0.0)}, "above 0"),
        ({"flips": ("diagonal",)}, "'horizontal', 'vertical', 'both'"),
        ({"flips": ("both", "both")}, "must not repeat"),
    ],
)
def test_bad_arguments(options, problem):
    with pytest.raises(ArgumentError, match=problem):
        TTA(**options)


@pytest.mark.long
def test_an_image_in_a_larger_array_gets_what_it_gets_alone():
    image = jax.random.uniform(jax.random.key(1), (2, 16, 20, 3), maxval=255)
    extent = jnp.array([[12, 10], [9, 17]], jnp.int32)
    options = {"scales": (0.5, 1.0, 1.5), "flips": ("horizontal", "vertical", "both")}

    def masked(x, inner):
        rows, columns = jnp.arange(x.shape[1])[:, None], jnp.arange(x.shape[2])
        inside = (rows < inner[:, 0, None, None]) & (columns < inner[:, 1, None, None])
        return directional(jnp.where(inside[..., None], x, 0))

    together = jax.jit(lambda x, e: probabilities(masked, x, e, **options))(image, extent)
    for one, found, (height, width) in zip(image, together, extent.tolist(), strict=True):
        alone = probabilities(directional, one[None, :height, :width], **options)[0]
        np.testing.assert_allclose(found[:height, :width], alone, atol=1e-5)


def test_the_number_of_copies():
    assert TTA((0.5, 1.0, 2.0), ("horizontal", "both")).copies == 9
    assert TTA().is_identity and not TTA((1.0,), ("vertical",)).is_identity
