"""Conversion of stored pixel values to the range of a batch, 0..255, and between gray and RGB."""

from collections.abc import Sequence

import numpy as np

from flaxseg.errors import ArgumentError, DataError, number_of

ValueRange = Sequence[float] | Sequence[Sequence[float]]
"""(low, high), the stored values that become 0 and 255; or one such pair per channel."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The weights of red, green and blue in gray, of ITU-R BT.601."""


def to_intensities(pixels: np.ndarray, *, name: str, value_range: ValueRange | None = None) -> np.ndarray:
    """Scales stored values to 0..255.

    Args:
      pixels: [H, W, C] of any real dtype.
      name: the name of the image, for messages.
      value_range: the stored values that become 0 and 255; values outside are clipped. None keeps 8-bit values as they
        are, uses (0, 65535) for unsigned 16-bit values, and rejects other dtypes.

    Returns:
      uint8[H, W, C] for 8-bit values without a range, otherwise float32[H, W, C] in 0..255.

    Raises:
      DataError: NaN or infinite values, a dtype that needs a range, or ranges for another number of channels.
    """
    if value_range is None and pixels.dtype == np.uint8:
        return pixels
    check_finite(pixels, name)
    if value_range is None:
        if pixels.dtype != np.uint16:
            raise DataError(
                f"{name}: contains {pixels.dtype} values from {pixels.min()} to {pixels.max()}, and nothing says which "
                "of them is black and which is white; give value_range=(low, high), the values that become 0 and 255 "
                "in the whole dataset"
            )
        value_range = (0, 65535)
    low, high = np.asarray(value_range, np.float32).T
    if low.ndim and len(low) != pixels.shape[2]:
        raise DataError(
            f"{name}: has {number_of(pixels.shape[2], 'channel')}, but value_range has {len(low)} pairs (low, high); "
            "give one pair per channel, or one pair for all"
        )
    with np.errstate(over="ignore"):  # A value beyond float32 is outside the range anyway.
        scaled = pixels.astype(np.float32)
        scaled -= low
        scaled *= 255 / (high - low)
    return np.clip(scaled, 0, 255, out=scaled)


def check_value_range(value_range: ValueRange) -> None:
    """Checks that `value_range` is (low, high) or a sequence of such pairs.

    Raises:
      ArgumentError: it has another shape, or low is not below high.
    """
    try:
        with np.errstate(over="ignore"):
            # As it is computed with: two large numbers may be equal in float32.
            pairs = np.asarray(value_range, np.float64).astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        pairs = np.empty(0, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        widths = pairs[..., 1] - pairs[..., 0] if pairs.ndim in (1, 2) and pairs.shape[-1] == 2 else np.zeros(1)
    if not (np.isfinite(widths) & (widths > 0)).all():
        raise ArgumentError(
            "value_range",
            value_range,
            "must be (low, high) with low below high, also as float32 numbers, or one such pair per channel",
        )


def convert_channels(image: np.ndarray, channels: int, *, name: str) -> np.ndarray:
    """Converts an image to gray or RGB.

    Args:
      image: uint8 or float32[H, W, C].
      channels: 1 for gray (from RGB by ITU-R BT.601), 3 for RGB (from gray by repeating it), 0 to keep the image.
      name: the name of the image, for messages.

    Returns:
      [H, W, channels] of the same dtype.

    Raises:
      DataError: the image is neither gray nor RGB.
    """
    if channels in (0, image.shape[2]):
        return image
    if image.shape[2] == 1:
        return np.repeat(image, channels, axis=2)
    if image.shape[2] != 3:
        raise DataError(
            f"{name}: has {image.shape[2]} channels, but channels={channels} only converts between gray (1) and RGB "
            "(3); leave `channels` out to use all channels"
        )
    gray = (image @ _LUMA)[..., None]
    return gray if image.dtype == np.float32 else np.rint(gray).astype(image.dtype)


def check_finite(pixels: np.ndarray, name: str) -> None:
    """Checks that an image has real, finite numbers.

    Args:
      pixels: an array of any shape and dtype.
      name: the name of the image, for the message.

    Raises:
      DataError: it does not; the message says how many of its values are NaN or infinite.
    """
    if pixels.dtype.kind not in "uifb":
        raise DataError(f"{name}: contains {pixels.dtype} values, but an image has real numbers; save it as float32")
    invalid = 0 if pixels.dtype.kind != "f" else pixels.size - int(np.isfinite(pixels).sum())
    if invalid:
        raise DataError(
            f"{name}: {invalid:,} of its values ({invalid / pixels.size:.2%}) are NaN or infinite; replace them by a "
            "finite number, and set these pixels of the mask to an ignored value (255)"
        )
