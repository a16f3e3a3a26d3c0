"""From the values that picture files store to those that a batch holds: 0..255."""

from collections.abc import Sequence

import numpy as np

from flaxseg.errors import DataError

ValueRange = Sequence[float] | Sequence[Sequence[float]]
"""(low, high), the stored values that become 0 and 255; or one such pair for each channel."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue in gray, of ITU-R BT.601."""


def to_intensities(pixels: np.ndarray, *, name: str, value_range: ValueRange | None = None) -> np.ndarray:
    """Stored values on the scale of a batch.

    Args:
      pixels: [H, W, C] of any real type.
      name: what a message calls the picture.
      value_range: the stored values that become 0 and 255; values outside are clipped. Left out, 8 bits stay as they
        are, 16 unsigned bits have the range (0, 65535), and other types are refused.

    Returns:
      uint8[H, W, C] for 8 bits without a range, else float32[H, W, C] in 0..255.

    Raises:
      DataError: NaN or infinite values, a type without a range, or ranges for another number of channels.
    """
    if value_range is None and pixels.dtype == np.uint8:
        return pixels
    _check_finite(pixels, name)
    if value_range is None:
        if pixels.dtype != np.uint16:
            raise DataError(
                f"{name}: holds {pixels.dtype} values from {pixels.min()} to {pixels.max()}, and nothing says which "
                "of them is dark and which is bright: give data.options.value_range=(low, high) for the whole data "
                "set, the values that become 0 and 255"
            )
        value_range = (0, 65535)
    low, high = np.asarray(value_range, np.float32).T
    if low.ndim and len(low) != pixels.shape[2]:
        raise DataError(
            f"{name}: has {pixels.shape[2]} channel(s), but data.options.value_range has {len(low)} pairs (low, high); "
            "give one pair for each channel, or one for all"
        )
    with np.errstate(over="ignore"):  # Past float32 is past the range.
        scaled = pixels.astype(np.float32)
        scaled -= low
        scaled *= 255 / (high - low)
    return np.clip(scaled, 0, 255, out=scaled)


def check_value_range(value_range: ValueRange) -> None:
    """Refuses what is no (low, high) and no sequence of them.

    Raises:
      DataError: another shape, or low not below high.
    """
    try:
        pairs = np.asarray(value_range, np.float64)
    except (ValueError, TypeError):
        pairs = np.empty(0)
    fits = pairs.ndim in (1, 2) and pairs.shape[-1] == 2 and np.isfinite(pairs).all()
    if not fits or not (pairs[..., 0] < pairs[..., 1]).all():
        raise DataError(
            f"data.options.value_range is {value_range!r}: it has to be (low, high) with low below high, or one such "
            "pair for each channel"
        )


def with_channels(image: np.ndarray, channels: int, *, name: str) -> np.ndarray:
    """`image` as gray or RGB.

    Args:
      image: uint8 or float32[H, W, C].
      channels: 1 for gray (of RGB: ITU-R BT.601), 3 for RGB (of gray: three equal channels), 0 for as it is.
      name: what a message calls the picture.

    Returns:
      [H, W, channels] of the same type.

    Raises:
      DataError: the picture is neither gray nor RGB.
    """
    if channels in (0, image.shape[2]):
        return image
    if image.shape[2] == 1:
        return np.repeat(image, channels, axis=2)
    if image.shape[2] != 3:
        raise DataError(
            f"{name}: has {image.shape[2]} channels, and data.options.channels={channels} converts between gray (1) "
            "and RGB (3) only; leave it out to use all channels"
        )
    gray = (image @ _LUMA)[..., None]
    return gray if image.dtype == np.float32 else np.rint(gray).astype(image.dtype)


def _check_finite(pixels: np.ndarray, name: str) -> None:
    if pixels.dtype.kind not in "uifb":
        raise DataError(f"{name}: holds {pixels.dtype} values; a picture has real numbers: save it as float32")
    wrong = 0 if pixels.dtype.kind != "f" else pixels.size - int(np.isfinite(pixels).sum())
    if wrong:
        raise DataError(
            f"{name}: {wrong:,} of its values ({wrong / pixels.size:.2%}) are NaN or infinite; write a finite number "
            "there, and in the mask an ignored value (255)"
        )
