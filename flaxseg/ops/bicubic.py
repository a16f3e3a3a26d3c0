"""Bicubic resizing with the values of PyTorch's, for the position embeddings of vision transformers."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bicubic(x: jax.Array, size: tuple[int, int], *, antialias: bool = False) -> jax.Array:
    r"""Resizes images bicubically; equals PyTorch's `interpolate(..., mode="bicubic", align_corners=False)`.

    Both forms are Keys' kernel (1981, https://doi.org/10.1109/TASSP.1981.1163711), with :math:`a = -0.75` over pixels
    repeated beyond the border, or, with `antialias`, with :math:`a = -0.5` over the pixels that exist, stretched where
    the image shrinks. An image of the same size is returned unchanged.

    Args:
      x: float[B, h, w, C].
      size: height and width of the output; like those of `x`, they may be symbolic.
      antialias: average over the pixels that fall together where the image shrinks.

    Returns:
      float[B, *size, C] of x's dtype.
    """
    for axis, new in ((1, size[0]), (2, size[1])):
        if x.shape[axis] != new:
            weights = (_antialiased_weights if antialias else _weights)(x.shape[axis], new).astype(x.dtype)
            formula = "bhwc,Hh->bHwc" if axis == 1 else "bhwc,Ww->bhWc"
            x = jnp.einsum(formula, x, weights, precision=lax.Precision.HIGHEST)
    return x


def _weights(old: Any, new: Any) -> Any:
    """Returns float[new, old]: row i holds the weights of the old positions in new position i."""
    xp, positions, targets = _positions(old, new)
    source = (targets + 0.5) * (old / new) - 0.5
    lower = xp.floor(source)
    total = 0.0
    for tap in range(-1, 3):
        # Pixels beyond the border are those at the border.
        column = xp.clip(lower + tap, 0, old - 1)
        total = total + _cubic(xp, lower + tap - source, -0.75)[:, None] * (column[:, None] == positions)
    return total


def _antialiased_weights(old: Any, new: Any) -> Any:
    xp, positions, targets = _positions(old, new)
    scale = old / new
    stretch = max(scale, 1.0) if xp is np else jnp.maximum(scale, 1.0)
    weights = _cubic(xp, (positions + 0.5 - (targets[:, None] + 0.5) * scale) / stretch, -0.5)
    return weights / weights.sum(1, keepdims=True)


def _positions(old: Any, new: Any) -> tuple[ModuleType, Any, Any]:
    """Returns the module that computes weights, and the old and new positions; constants where the sizes are known."""
    if isinstance(old, int) and isinstance(new, int):
        return np, np.arange(old), np.arange(new)
    return jnp, lax.iota(jnp.float32, old), lax.iota(jnp.float32, new)


def _cubic(xp: ModuleType, distance: Any, a: float) -> Any:
    """Returns the values of Keys' kernel."""
    t = xp.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return xp.where(t <= 1, near, xp.where(t < 2, far, 0.0))
