"""Random rectangles in images."""

import jax
import jax.numpy as jnp


def random_rectangles(key: jax.Array, size: tuple[int, ...], sides: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns bool[B, *size]: True inside one rectangle per image, at a uniformly random position within the image.

    Args:
      key: random key.
      size: height and width of the images, in pixels.
      sides: height and width of the rectangles, float32[B] each, as fractions of the image's.
    """

    def interval(key: jax.Array, size: int, fraction: jax.Array) -> jax.Array:
        length = size * fraction[:, None]
        begin = (size - length) * jax.random.uniform(key, length.shape)
        pixel = jnp.arange(size) + 0.5
        return (pixel >= begin) & (pixel < begin + length)

    rows, columns = (interval(*given) for given in zip(jax.random.split(key), size, sides, strict=True))
    return rows[:, :, None] & columns[:, None, :]
