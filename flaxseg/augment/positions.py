"""The positions in the canvas at which the pixels of a crop are sampled, given the random transform of its image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Placement(NamedTuple):
    """The positions of the images of a batch in canvases that were cut from them at their own scale."""

    offset: jax.Array
    """float32[B, 2] in 0..1, where the crop lies between its first and its last position in the whole image."""
    extent: jax.Array
    """int32[B, 2], height and width of the part of the canvas that the image covers; the rest is padding."""

    def begin_and_extent(self, canvas: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Returns where the images begin in a canvas of this size, and their extent, float32[B, 2] each."""
        extent = self.extent.astype(jnp.float32)
        # Rounded as in `flaxseg.data.crops.cut_canvases`.
        return jnp.round(self.offset * (jnp.asarray(canvas, jnp.float32) - extent)), extent


class Transform(NamedTuple):
    """The random transforms of a batch, apart from the positions of the crops."""

    zoom: jax.Array
    """float32[B]"""
    inverse_linear: jax.Array
    """float32[B, 2, 2], maps offsets in the crop to offsets in the canvas, apart from the zoom."""
    displacement: jax.Array | None
    """float32[B, h, w, 2], elastic displacements in pixels of the crop."""
    kept: tuple[jax.Array, jax.Array] | None
    """float32[B, 2] each: begin and extent, in the canvas, of images that keep their scale; None if the whole canvas
    fills the crop at a zoom of 1."""


def positions(
    transform: Transform,
    crop_offset: jax.Array,
    pixels: tuple[jax.Array, ...],
    crop_size: tuple[int, int],
    canvas: tuple[int, ...],
    is_separable: bool,
) -> tuple[jax.Array, jax.Array]:
    """Returns the rows and columns of the canvas under the pixel centers of the crop.

    Args:
      transform: the random transforms.
      crop_offset: float32[B, 2] in 0..1, where the crop lies between its first and its last position. These are the
        positions where crop and zoomed image, which has the size `crop_size * zoom`, overlap as much as possible.
      pixels: rows and columns of the pixel centers of the crop.
      crop_size: height and width of the crop.
      canvas: height and width of the canvas.
      is_separable: each row of the crop lies in a single row of the canvas.
    """
    zoom = transform.zoom[:, None]
    in_crop, in_canvas, stretch = _fixed_point(transform, crop_offset, crop_size, canvas)
    down = pixels[0][:, None] - in_crop[:, 0, None, None]
    right = pixels[1] - in_crop[:, 1, None, None]
    if transform.displacement is not None:
        down, right = down + transform.displacement[..., 0], right + transform.displacement[..., 1]

    def along(axis: int) -> jax.Array:
        weights = transform.inverse_linear[:, axis, :, None, None]
        if is_separable:
            offset = (down, right)[axis] * weights[:, axis]
        else:
            offset = down * weights[:, 0] + right * weights[:, 1]
        return (offset / zoom[..., None] + in_canvas[:, axis, None, None]) * stretch[axis] - 0.5

    return along(0), along(1)


def _fixed_point(
    transform: Transform, crop_offset: jax.Array, crop_size: tuple[int, int], canvas: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, tuple[float, float]]:
    """Returns the fixed point of flips and rotations, and the number of canvas pixels per pixel of the crop.

    Returns:
      The point in the crop and in the canvas, float32[B or 1, 2] each, both in pixels of the crop at a zoom of 1; and
      the number of canvas pixels per such pixel along each axis.
    """
    crop, zoom = jnp.asarray(crop_size, jnp.float32), transform.zoom[:, None]
    if transform.kept is None:
        # The center of the canvas.
        in_crop = crop * ((1.0 - zoom) * crop_offset + 0.5 * zoom)
        return in_crop, crop[None] / 2, (canvas[0] / crop_size[0], canvas[1] / crop_size[1])
    # The center of the crop, because a crop that is flipped about the center of the canvas could lie in the padding.
    begin, extent = transform.kept
    in_canvas = begin + crop_offset * (extent - crop / zoom) + crop / (2 * zoom)
    return crop[None] / 2, in_canvas, (1.0, 1.0)
