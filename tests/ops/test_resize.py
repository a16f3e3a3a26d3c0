"""Resizing by hand and compared with jax.image.resize, exporting, and ragged sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.ops import resize_bilinear, resize_bilinear_ragged, resize_nearest

SIZES = [(10, 14), (5, 7), (3, 4), (13, 3), (1, 1), (20, 8)]


def random_images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def reference(x, size, method):
    return jax.image.resize(x, (*x.shape[:-3], *size, x.shape[-1]), method, antialias=False)


@pytest.mark.parametrize("size", SIZES)
def test_equals_jax_image_resize(size):
    x = random_images(2, 5, 7, 3)
    np.testing.assert_allclose(resize_bilinear(x, size), reference(x, size, "bilinear"), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(resize_nearest(x, size), reference(x, size, "nearest"))


def test_bilinear_by_hand():
    x = jnp.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(resize_bilinear(x, (2, 6))[0, 1, :, 0], [0, 1, 3, 5, 7, 8], atol=1e-6)


def test_nearest_keeps_integers():
    label = jnp.array([[0, 255], [7, 1]], jnp.uint8).reshape(1, 2, 2, 1)
    resized = resize_nearest(label, (3, 4))
    assert resized.dtype == jnp.uint8
    np.testing.assert_array_equal(resized[0, :, :, 0], [[0, 0, 255, 255], [7, 7, 1, 1], [7, 7, 1, 1]])


def test_aligned_corners_stay_in_place():
    x = jnp.array([[0, 2], [4, 6]], jnp.float32)[None, :, :, None]
    resized = resize_bilinear(x, (3, 5), align_corners=True)
    expected = [[0, 0.5, 1, 1.5, 2], [2, 2.5, 3, 3.5, 4], [4, 4.5, 5, 5.5, 6]]
    np.testing.assert_allclose(resized[0, :, :, 0], expected, atol=1e-6)


def test_bfloat16_stays_bfloat16():
    assert resize_bilinear(random_images(1, 4, 4, 2).astype(jnp.bfloat16), (9, 9)).dtype == jnp.bfloat16


def test_exports_with_a_symbolic_batch_size():
    (batch,) = jax.export.symbolic_shape("batch")
    resize = jax.jit(lambda x: (resize_bilinear(x, (9, 4)), resize_nearest(x, (9, 4))))
    exported = jax.export.export(resize)(jax.ShapeDtypeStruct((batch, 5, 7, 3), jnp.float32))
    x = random_images(4, 5, 7, 3)
    for actual, method in zip(exported.call(x), ("bilinear", "nearest"), strict=True):
        np.testing.assert_allclose(actual, reference(x, (9, 4), method), atol=2e-6)


def test_nearest_with_symbolic_sizes_that_are_no_multiples():
    rows, columns = jax.export.symbolic_shape("rows, columns")
    resize = jax.jit(lambda x: resize_nearest(x, (7 * rows, 2 * columns)))
    exported = jax.export.export(resize)(jax.ShapeDtypeStruct((1, 8 * rows, 3 * columns, 2), jnp.float32))
    x = random_images(1, 16, 9, 2)
    np.testing.assert_array_equal(exported.call(x), resize_nearest(x, (14, 6)))


@pytest.mark.parametrize("canvas", [pytest.param((20, 14), marks=pytest.mark.long), (21, 40)])
def test_ragged_resizes_each_image_to_its_own_size(canvas):
    x, sizes = random_images(len(SIZES), 5, 7, 3), np.array(SIZES, np.int32)
    resized = jax.jit(resize_bilinear_ragged, static_argnums=2)(x, sizes, canvas)
    assert resized.shape == (len(SIZES), *canvas, 3)
    assert np.isfinite(resized).all()
    for one, size, image in zip(resized, SIZES, x, strict=True):
        expected = reference(image, size, "bilinear")
        np.testing.assert_allclose(one[: size[0], : size[1]], expected, rtol=0, atol=2e-6)


def test_ragged_with_antialiasing_equals_jax_image_resize():
    x, sizes = random_images(len(SIZES), 9, 12, 3), np.array([*SIZES[:-1], (9, 12)], np.int32)
    old = np.array([(5, 7), (9, 12), (9, 12), (8, 9), (2, 3), (9, 12)], np.int32)
    resize = jax.jit(functools.partial(resize_bilinear_ragged, antialias=True), static_argnums=2)
    resized = resize(x, sizes, (21, 15), old_sizes=old)
    assert np.isfinite(resized).all()
    for one, size, image, (height, width) in zip(resized, sizes.tolist(), x, old.tolist(), strict=True):
        expected = jax.image.resize(image[:height, :width], (*size, 3), "bilinear", antialias=True)
        np.testing.assert_allclose(one[: size[0], : size[1]], expected, rtol=0, atol=3e-6)


def test_ragged_is_exact_for_large_images():
    x, size = random_images(1, 2, 700, 1), (2, 4096)
    resized = jax.jit(resize_bilinear_ragged, static_argnums=2)(x, np.array([size]), size)
    np.testing.assert_allclose(resized, resize_bilinear(x, size), rtol=0, atol=2e-6)


def test_a_ragged_result_can_be_computed_in_parts():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    sizes = np.array([[9, 7], [3, 8]], np.int32)
    resize = jax.jit(resize_bilinear_ragged, static_argnums=2)
    whole = resize(x, sizes, (12, 8))
    parts = [resize(x, sizes, (4, 8), first_row=first) for first in (0, 4, 8)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)
