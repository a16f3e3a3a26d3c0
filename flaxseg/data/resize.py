"""Antialiased resizing of images, and resizing of labels, on the host."""

import math

import cv2
import numpy as np

_MAX_FILTERED = 6
"""The largest ratio at which an axis is filtered at full length; above it, pixel areas are averaged first."""

_AVERAGED_LENGTH = 3
"""Averaging reduces such an axis to this multiple of its new length, as Pillow does with `reducing_gap=3`."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image bilinearly; along an axis that shrinks, with an antialiasing triangle filter.

    The filter is as wide as two new pixels, like that of `torch.nn.functional.interpolate(mode="bilinear",
    antialias=True)` and of Pillow's bilinear `resize`. It is evaluated at the old pixel centers, and interpolated
    linearly between them; the result equals that of PyTorch where the ratio of the sizes is an integer, and elsewhere
    differs from it by about one level out of 255. That is several times faster.

    Args:
      image: uint8 or float32[H, W, C].
      size: the new height and width.

    Returns:
      [size[0], size[1], C] of the same dtype; `image` itself if it has that size.
    """
    if image.shape[:2] == tuple(size):
        return image
    # cv2 resizes up to four channels at once, and drops the axis of a single one.
    groups = (image[..., first : first + 4] for first in range(0, image.shape[2], 4))
    resized = [_resize_group(group, tuple(size)).reshape(*size, group.shape[2]) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a label: each new pixel takes the value at its center, aligned with `resize_image`.

    Args:
      label: uint8[H, W].
      size: the new height and width.

    Returns:
      uint8[size[0], size[1]]; `label` itself if it has that size.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (_center_indices(old, new) for old, new in zip(label.shape, size, strict=True))
    return label[rows].take(columns, axis=1)


def scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Returns height and width multiplied by `scale`, rounded to integers of at least 1."""
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def antialiasing_kernel(ratio: float) -> np.ndarray:
    """Returns the filter that an axis needs before it is interpolated linearly at every `ratio`-th pixel.

    Its weights are those of a triangle of half-width `ratio` and area 1 at integer positions, except for the outermost
    two, which make the sum 1: (1, 2, 1) / 4 for a ratio of 2, and (1,) for a ratio of 1 or less.

    Args:
      ratio: old length / new length, above 0.

    Returns:
      float32[N], symmetric, N odd.
    """
    if ratio <= 1:
        return np.ones(1, np.float32)
    radius = math.ceil(ratio) - 1
    weights = (1 - np.abs(np.arange(-radius, radius + 1)) / ratio) / ratio
    weights[[0, -1]] = (1 - weights[1:-1].sum()) / 2
    return weights.astype(np.float32)


def _resize_group(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes an image of at most four channels."""
    averaged = tuple(
        _AVERAGED_LENGTH * new if old > _MAX_FILTERED * new else old
        for old, new in zip(image.shape, size, strict=False)
    )
    if averaged != image.shape[:2]:
        image = cv2.resize(image, averaged[::-1], interpolation=cv2.INTER_AREA)
    rows, columns = (antialiasing_kernel(old / new) for old, new in zip(averaged, size, strict=True))
    if len(rows) > 1 or len(columns) > 1:
        image = cv2.sepFilter2D(image, -1, columns, rows, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _center_indices(old: int, new: int) -> np.ndarray:
    """Returns the index of the old pixel at the center of each new pixel, in exact integer arithmetic."""
    return (2 * np.arange(new) + 1) * old // (2 * new)
