"""Stored values of every dtype are scaled to 0..255, and gray and RGB are converted."""

import numpy as np
import pytest

from flaxseg.data.decode.intensities import convert_channels, to_intensities
from flaxseg.errors import DataError


def test_eight_bits_are_unchanged_unless_a_range_is_given() -> None:
    pixels = np.array([[[0], [100], [200]]], np.uint8)
    assert to_intensities(pixels, name="x") is pixels
    stretched = to_intensities(pixels, name="x", value_range=(50, 150))
    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched[0, :, 0], [0, 127.5, 255])


def test_unsigned_sixteen_bits_have_a_default_range() -> None:
    scaled = to_intensities(np.array([[[0], [257], [65535]]], np.uint16), name="x")
    np.testing.assert_allclose(scaled[0, :, 0], [0, 1, 255], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_other_dtypes_use_the_range_and_are_clipped(dtype: type) -> None:
    pixels = np.array([[[-300], [-100], [0], [100], [999]]], dtype)
    scaled = to_intensities(pixels, name="x", value_range=(-100, 100))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[0, :, 0], [0, 0, 127.5, 255, 255])
    with pytest.raises(DataError, match=r"x: contains \w+ values from -300.* to 999.*give value_range=\(low, high\)"):
        to_intensities(pixels, name="x")


def test_each_channel_can_have_its_own_range() -> None:
    scaled = to_intensities(np.full((2, 2, 2), 10.0), name="x", value_range=((0, 20), (-10, 10)))
    np.testing.assert_allclose(scaled, np.broadcast_to([127.5, 255], (2, 2, 2)))


def test_values_beyond_float32_are_clipped() -> None:
    np.testing.assert_array_equal(to_intensities(np.array([[[1e300]]]), name="x", value_range=(0, 1)), [[[255]]])


def test_values_that_are_not_finite_are_counted() -> None:
    pixels = np.array([[[np.nan], [np.inf], [0.0], [1.0]]], np.float32)
    with pytest.raises(DataError, match=r"x: 2 of its values \(50\.00%\) are NaN or infinite"):
        to_intensities(pixels, name="x", value_range=(0, 1))
    with pytest.raises(DataError, match="x: contains complex64 values"):
        to_intensities(pixels.astype(np.complex64), name="x", value_range=(0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gray_and_rgb_are_converted(dtype: type) -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype)
    gray = convert_channels(rgb, 1, name="x")
    assert gray.dtype == dtype and gray.shape == (1, 4, 1)
    np.testing.assert_allclose(gray[0, :, 0], [76.245, 149.685, 29.07, 255], atol=0.5 if dtype == np.uint8 else 1e-3)
    back = convert_channels(gray, 3, name="x")
    np.testing.assert_array_equal(back, np.repeat(gray, 3, 2))
    assert convert_channels(rgb, 3, name="x") is rgb and convert_channels(rgb, 0, name="x") is rgb
