"""Differentiable grayscale erosion and dilation."""

import jax
import jax.numpy as jnp

_CROSS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
_SQUARE = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))


@jax.custom_vjp
def erosion(x: jax.Array) -> jax.Array:
    """Returns the minimum of each pixel and its 4 neighbors.

    Equal minima share the gradient evenly, so that the gradient is equivariant to rotations and flips.

    Args:
      x: float[..., H, W]; pixels outside the image are excluded.

    Returns:
      float[..., H, W] of x's dtype.
    """
    return jnp.stack(_neighbors(x, _CROSS, jnp.inf)).min(0)


@jax.custom_vjp
def dilation(x: jax.Array) -> jax.Array:
    """Returns the maximum of each pixel and its 8 neighbors.

    Equal maxima share the gradient evenly, so that the gradient is equivariant to rotations and flips.

    Args:
      x: float[..., H, W]; pixels outside the image are excluded.

    Returns:
      float[..., H, W] of x's dtype.
    """
    leading = (1,) * (x.ndim - 2)
    for window in ((3, 1), (1, 3)):
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, leading + window, (1,) * x.ndim, "SAME")
    return x


def _erosion_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = erosion(x)
    return y, (x, y)


def _erosion_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (_gradient_of_selection(*residuals, gradient, _CROSS),)


def _dilation_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = dilation(x)
    return y, (x, y)


def _dilation_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (_gradient_of_selection(*residuals, gradient, _SQUARE),)


erosion.defvjp(_erosion_forward, _erosion_backward)
dilation.defvjp(_dilation_forward, _dilation_backward)


def _gradient_of_selection(
    x: jax.Array, y: jax.Array, gradient: jax.Array, offsets: tuple[tuple[int, int], ...]
) -> jax.Array:
    """Returns the gradient of x for an output y that selects, at each pixel, a value of x at one of the offsets.

    It is written by hand because the gradients of windowed reductions are slow, and for the gradients of chains of
    selections XLA recomputes each stage for every neighbor. The set of offsets must be point-symmetric.
    """
    ties = sum((near == y).astype(x.dtype) for near in _neighbors(x, offsets, jnp.nan))
    part = gradient / ties
    pairs = zip(_neighbors(y, offsets, jnp.nan), _neighbors(part, offsets, 0.0), strict=True)
    return jnp.asarray(sum(jnp.where(x == selected, received, 0.0) for selected, received in pairs))


def _neighbors(x: jax.Array, offsets: tuple[tuple[int, int], ...], fill: float) -> list[jax.Array]:
    """Returns, for each offset of -1 to 1 along both axes, the values of x there; `fill` outside the image."""
    height, width = x.shape[-2:]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1)] * 2, constant_values=fill)
    return [padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width] for row, column in offsets]
