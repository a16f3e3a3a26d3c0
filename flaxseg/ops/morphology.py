"""Erosion and dilation of maps of values, with gradients."""

import jax
import jax.numpy as jnp

_CROSS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
_SQUARE = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))


@jax.custom_vjp
def erosion(x: jax.Array) -> jax.Array:
    """Returns the least of each pixel and its four neighbors, float[..., H, W] of x's dtype.

    Pixels that tie share the gradient evenly, so that it turns and mirrors with the map.

    Args:
      x: float[..., H, W]; there is nothing beyond the border.
    """
    return jnp.stack(_neighbors(x, _CROSS, jnp.inf)).min(0)


@jax.custom_vjp
def dilation(x: jax.Array) -> jax.Array:
    """Returns the largest of each pixel and its eight neighbors, float[..., H, W] of x's dtype.

    Pixels that tie share the gradient evenly, so that it turns and mirrors with the map.

    Args:
      x: float[..., H, W]; there is nothing beyond the border.
    """
    leading = (1,) * (x.ndim - 2)
    for window in ((3, 1), (1, 3)):
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, leading + window, (1,) * x.ndim, "SAME")
    return x


def _erosion_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = erosion(x)
    return y, (x, y)


def _erosion_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (_to_the_chosen(*kept, gradient, _CROSS),)


def _dilation_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = dilation(x)
    return y, (x, y)


def _dilation_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (_to_the_chosen(*kept, gradient, _SQUARE),)


erosion.defvjp(_erosion_forward, _erosion_backward)
dilation.defvjp(_dilation_forward, _dilation_backward)


def _to_the_chosen(x: jax.Array, y: jax.Array, gradient: jax.Array, offsets: tuple[tuple[int, int], ...]) -> jax.Array:
    """Returns the gradient for x of a y that is, at each pixel, one value or several that tie of x nearby.

    Written by hand because the gradients of windowed reductions are slow, and those of chains of selections make XLA
    compute each stage anew for every neighbor. `offsets` are the same mirrored, so that they serve both ways.
    """
    ties = sum((near == y).astype(x.dtype) for near in _neighbors(x, offsets, jnp.nan))
    share = gradient / ties
    into = zip(_neighbors(y, offsets, jnp.nan), _neighbors(share, offsets, 0.0), strict=True)
    return jnp.asarray(sum(jnp.where(x == chosen, given, 0.0) for chosen, given in into))


def _neighbors(x: jax.Array, offsets: tuple[tuple[int, int], ...], fill: float) -> list[jax.Array]:
    """Returns what lies at each offset, -1 to 1 along each side, from every pixel; `fill` beyond the border."""
    height, width = x.shape[-2:]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1)] * 2, constant_values=fill)
    return [padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width] for row, column in offsets]
