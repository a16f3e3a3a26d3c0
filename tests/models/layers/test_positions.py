import math

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg import ops
from flaxseg.models.layers.positions import resized, rotated, rotation


def test_positions_of_the_trained_grid_stay_as_they_are():
    positions = np.random.default_rng(0).normal(size=(1, 1 + 9, 4)).astype(np.float32)
    for interpolation in ("bicubic_antialias", "bicubic", "bilinear"):
        found = resized(jnp.asarray(positions), (3, 3), grid=3, interpolation=interpolation)
        np.testing.assert_array_equal(found, positions)


@pytest.mark.parametrize("first", [0, 1])
def test_only_the_positions_of_patches_are_resized(first):
    positions = np.random.default_rng(0).normal(size=(1, first + 9, 4)).astype(np.float32)
    square = jnp.asarray(positions[:, first:].reshape(1, 3, 3, 4))
    resize = {
        "bicubic_antialias": lambda size: ops.resize_bicubic(square, size, antialias=True),
        "bicubic": lambda size: ops.resize_bicubic(square, size),
        "bilinear": lambda size: ops.resize_bilinear(square, size),
    }
    for interpolation, expected in resize.items():
        found = resized(jnp.asarray(positions), (2, 5), grid=3, interpolation=interpolation)
        np.testing.assert_array_equal(found[:, :first], positions[:, :first])
        # Rows first: the second row of patches begins after the five of the first.
        np.testing.assert_array_equal(found[0, first + 5], expected((2, 5))[0, 1, 0])
        np.testing.assert_array_equal(found[:, first:], expected((2, 5)).reshape(1, 10, 4))


def slowly_rotated(tokens, size, base):
    """Returns rotated tokens [P, D], one pair of channels at a time."""
    height, width = size
    out = np.array(tokens, np.float64)
    quarter = tokens.shape[1] // 4
    for patch, token in enumerate(tokens):
        places = 2 * (patch // width + 0.5) / height - 1, 2 * (patch % width + 0.5) / width - 1
        for axis, place in enumerate(places):
            for i in range(quarter):
                angle = 2 * math.pi * place / base ** (4 * i / tokens.shape[1])
                one, other = axis * quarter + i, axis * quarter + i + 2 * quarter
                out[patch, one] = token[one] * math.cos(angle) - token[other] * math.sin(angle)
                out[patch, other] = token[other] * math.cos(angle) + token[one] * math.sin(angle)
    return out


def test_rotary_positions_equal_a_slow_reference():
    x = np.random.default_rng(0).normal(size=(2, 2 + 6, 3, 8)).astype(np.float32)
    found = rotated(jnp.asarray(x), rotation((2, 3), 8, base=10.0))
    # The class token and the register in front have no position.
    np.testing.assert_array_equal(found[:, :2], x[:, :2])
    for image in range(2):
        for head in range(3):
            expected = slowly_rotated(x[image, 2:, head], (2, 3), 10.0)
            np.testing.assert_allclose(found[image, 2:, head], expected, atol=1e-5)


def test_rotary_positions_by_hand():
    sine, cosine = rotation((1, 2), 4, base=100.0)
    # The only row is at 0, and the two columns are at -1/2 and 1/2: half a turn back and ahead.
    np.testing.assert_allclose(cosine, [[1, -1, 1, -1], [1, -1, 1, -1]], atol=1e-6)
    np.testing.assert_allclose(sine, np.zeros((2, 4)), atol=1e-6)
    assert rotated(jnp.ones((1, 2, 1, 4), jnp.bfloat16), (sine, cosine)).dtype == jnp.bfloat16
