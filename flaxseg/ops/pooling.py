"""Max pooling over windows that do not overlap."""

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    """The maximum of each window x window block; a remainder at the bottom or right is dropped.

    Equal to `flax.linen.max_pool` with stride = window, in gradients too: of equal values the first, row by
    row, gets the gradient. NaN wins over every number. Written as a chain of selections because the gradient of
    the usual windowed reduction is slow on the CPU.

    Args:
      x: float[B, H, W, C].
      window: height and width of a block.

    Returns:
      float[B, H // window, W // window, C].
    """
    height, width = x.shape[1] // window, x.shape[2] // window
    x = x[:, : height * window, : width * window]
    best = x[:, ::window, ::window]
    for offset in range(1, window * window):
        row, column = divmod(offset, window)
        other = x[:, row::window, column::window]
        best = jnp.where((best >= other) | jnp.isnan(best), best, other)
    return best
