import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.models.layers.deformable import DeformableAttention, pixel_centers, sine_positions

SIZES = ((1, 2), (3, 4))


def test_centers_of_pixels_by_hand():
    expected = [[1 / 4, 1 / 2], [3 / 4, 1 / 2], [1 / 4, 1 / 4], [3 / 4, 1 / 4], [1 / 4, 3 / 4], [3 / 4, 3 / 4]]
    np.testing.assert_allclose(jax.jit(lambda: pixel_centers([(1, 2), (2, 2)]))(), expected, rtol=1e-6)


def test_positions_by_hand():
    found = jax.jit(lambda: sine_positions((1, 2), 8))()
    rows, columns = np.array([2 * math.pi] * 2), np.array([math.pi, 2 * math.pi])
    for offset, angles in ((0, rows), (4, columns)):
        for channel, (function, wavelength) in enumerate([(np.sin, 1), (np.cos, 1), (np.sin, 100), (np.cos, 100)]):
            np.testing.assert_allclose(found[:, offset + channel], function(angles / wavelength), atol=1e-5)


def test_attention_samples_each_point_by_itself():
    heads, points, channels = 2, 2, 4
    count = sum(height * width for height, width in SIZES)
    module = DeformableAttention(heads, points)
    query, value = np.asarray(jax.random.normal(jax.random.key(0), (2, 1, count, channels)))
    apply = functools.partial(module.apply, sizes=SIZES)
    shapes = jax.eval_shape(functools.partial(module.init, sizes=SIZES), jax.random.key(0), query, value)["params"]
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    expected = _attended(query[0], value[0], weights, heads=heads, points=points)
    found = jax.jit(apply)({"params": weights}, query, value)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def _attended(query, value, weights, *, heads, points):
    def dense(name, x):
        return x @ weights[name]["kernel"] + weights[name]["bias"]

    shape = (len(query), heads, len(SIZES), points)
    offsets = dense("offsets", query).reshape(*shape, 2)
    shares = np.exp(dense("weights", query).reshape(len(query), heads, -1))
    shares = (shares / shares.sum(-1, keepdims=True)).reshape(shape)
    values = dense("value", value).reshape(len(value), heads, -1)
    centers = [
        ((x + 0.5) / width, (y + 0.5) / height) for height, width in SIZES for y in range(height) for x in range(width)
    ]
    found = np.zeros_like(values)
    for token, head, level, point in np.ndindex(shape):
        height, width = SIZES[level]
        first = sum(h * w for h, w in SIZES[:level])
        x = centers[token][0] * width - 0.5 + offsets[token, head, level, point, 0]
        y = centers[token][1] * height - 0.5 + offsets[token, head, level, point, 1]
        # A pixel has the weight of a triangle around it, and there are none outside the map.
        for row, column in np.ndindex(height, width):
            near = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
            found[token, head] += shares[token, head, level, point] * near * values[first + row * width + column, head]
    return dense("proj", found.reshape(len(query), -1))


def test_heads_look_into_different_directions_at_first():
    module, x = DeformableAttention(4, 2), jnp.zeros((1, 4, 8))
    params = jax.jit(functools.partial(module.init, sizes=((2, 2),)))(jax.random.key(0), x, x)["params"]
    offsets = params["offsets"]["bias"].reshape(4, 1, 2, 2)
    directions = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    np.testing.assert_allclose(offsets[:, 0, 0], directions, atol=1e-6)
    np.testing.assert_allclose(offsets[:, 0, 1], 2 * directions, atol=1e-6)
    assert not np.any(params["offsets"]["kernel"]) and not np.any(params["weights"]["kernel"])


def test_the_gradient_moves_points_towards_larger_values():
    module = DeformableAttention(1, 1)
    value = jnp.arange(4.0).reshape(1, 4, 1)
    variables = {
        "params": {
            "offsets": {"kernel": jnp.zeros((1, 2)), "bias": jnp.array([0.25, 0.0])},
            "weights": {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)},
            "value": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
            "proj": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
        }
    }

    def mean(variables):
        return module.apply(variables, value, value, ((1, 4),)).mean()

    gradient = jax.jit(jax.grad(mean))(variables)["params"]["offsets"]["bias"]
    # Three of four points are between pixels with a difference of 1; the last falls towards 0 outside, from 3.
    np.testing.assert_allclose(gradient[0], (3 * 1 - 3) / 4, atol=1e-6)
