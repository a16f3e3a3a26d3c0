"""Images shrink without aliasing, labels take the value under each pixel center, and both stay aligned."""

import numpy as np
import pytest

from flaxseg.data.resize import antialiasing_kernel, resize_image, resize_label, scaled_size


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_resizing_to_the_same_size_returns_the_input(rgb: np.ndarray) -> None:
    assert resize_image(rgb, (6, 9)) is rgb
    assert resize_label(rgb[..., 0], (6, 9)).base is rgb


def triangle_weights(old: int, new: int) -> np.ndarray:
    """Returns float64[new, old]: the weights of PyTorch's bilinear interpolation with antialias=True."""
    width = max(old / new, 1)
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old)) / width)
    return weights / weights.sum(1, keepdims=True)


def resized_by_triangles(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (triangle_weights(*lengths) for lengths in zip(image.shape, size, strict=False))
    return np.einsum("Hh,hwc,Ww->HWc", rows, image.astype(float), columns, optimize=True)


def smooth_noise(height: int, width: int) -> np.ndarray:
    """Returns uint8[H, W, 3] with a spectrum that falls with the frequency, like that of a photograph."""
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1 / max(height, width)
    image = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / frequency[..., None], axes=(0, 1)).real
    return np.clip(127.5 + 50 * image / image.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_shrinking_by_an_integer_equals_the_triangle_filter(ratio: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20 * ratio, 30 * ratio, 3), np.uint8)
    inner = np.s_[1:-1, 1:-1]  # at the border, the reference drops the weights outside, and the image is reflected
    expected = resized_by_triangles(image, (20, 30))[inner]
    np.testing.assert_allclose(resize_image(image, (20, 30))[inner], expected, atol=1.5)
    exact = resize_image(image.astype(np.float32), (20, 30))[inner]
    np.testing.assert_allclose(exact, expected, atol=1e-3)


@pytest.mark.parametrize(
    "size", [(96, 120), (80, 100), (64, 85), (51, 63), (47, 60), (40, 20), (20, 20), (11, 9), (130, 30), (97, 121)]
)
def test_shrinking_by_any_ratio_is_close_to_the_triangle_filter(size: tuple[int, int]) -> None:
    image = smooth_noise(96, 120)
    difference = resize_image(image, size) - resized_by_triangles(image, size)
    assert np.sqrt((difference**2).mean()) < 3 < 0.07 * image.std()


def test_shrinking_a_ramp_keeps_it_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(180, dtype=np.float32)[:, None, None], (180, 8, 1))
    for new in (179, 140, 120, 95, 90, 89, 60, 41, 30):
        small = resize_image(ramp, (new, 8))[:, 4, 0]
        expected = (np.arange(new) + 0.5) * 180 / new - 0.5
        inner = slice(2, -2)
        np.testing.assert_allclose(small[inner], expected[inner], atol=0.51)


def test_stripes_of_one_pixel_fade_as_the_image_shrinks() -> None:
    stripes = np.zeros((16, 400, 1), np.uint8)
    stripes[:, ::2] = 255

    def deviation(new: int) -> float:
        return float(resize_image(stripes, (16, new))[:, 10:-10].std())

    at = {new: deviation(new) for new in (400, 380, 350, 300, 267, 230, 201, 200, 199, 150, 100, 50)}
    assert at[400] == 127.5
    # The triangle filter leaves 51, 33, 16 and 4.
    assert at[350] < 56 and at[300] < 37 and at[267] < 26 and at[230] < 12
    # There is no jump at a half.
    assert max(at[201], at[200], at[199]) < 2
    assert max(at[150], at[100], at[50]) < 6


def test_the_antialiasing_kernel_is_a_triangle_with_sum_1() -> None:
    np.testing.assert_array_equal(antialiasing_kernel(0.5), [1])
    np.testing.assert_array_equal(antialiasing_kernel(1), [1])
    np.testing.assert_allclose(antialiasing_kernel(1.25), [0.1, 0.8, 0.1], rtol=1e-6)
    np.testing.assert_allclose(antialiasing_kernel(2), [0.25, 0.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(antialiasing_kernel(3), np.array([1, 2, 3, 2, 1]) / 9, rtol=1e-6)
    for ratio in np.linspace(1, 7, 61):
        kernel = antialiasing_kernel(float(ratio))
        assert kernel.min() >= -1e-7 and abs(kernel.sum() - 1) < 1e-6


def test_growing_interpolates_between_centers_and_axes_are_independent() -> None:
    grown = resize_image(np.array([[[0], [100]]], np.uint8), (1, 4))[0, :, 0]
    np.testing.assert_allclose(grown, [0, 25, 75, 100], atol=1)
    mixed = resize_image(np.array([[[0], [100]]], np.uint8), (2, 1))[..., 0]
    np.testing.assert_array_equal(mixed, [[50], [50]])


def test_scaled_sizes_are_rounded_and_at_least_one() -> None:
    assert scaled_size((375, 500), 0.5) == (188, 250)
    assert scaled_size((375, 500), 1.0) == (375, 500)
    assert scaled_size((3, 2), 0.1) == (1, 1)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_any_number_of_channels_is_resized_channel_by_channel(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 20, channels), dtype=np.uint8)
    whole = resize_image(image, (5, 31))
    for channel in range(channels):
        np.testing.assert_array_equal(whole[..., channel : channel + 1], resize_image(image[..., [channel]], (5, 31)))


def test_float32_is_resized_like_uint8_except_for_rounding(rgb: np.ndarray) -> None:
    for size in ((3, 4), (14, 20), (3, 30)):
        wide = resize_image(rgb.astype(np.float32), size)
        assert wide.dtype == np.float32
        np.testing.assert_allclose(wide, resize_image(rgb, size), atol=2)


@pytest.mark.parametrize("size", [(3, 3), (18, 27), (7, 4), (1, 1), (64, 5)])
def test_labels_take_the_value_under_each_pixel_center(size: tuple[int, int]) -> None:
    label = np.arange(54, dtype=np.uint8).reshape(6, 9)
    small = resize_label(label, size)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = (row + 0.5) * 6 / size[0], (column + 0.5) * 9 / size[1]
            assert small[row, column] == label[int(y + 1e-9), int(x + 1e-9)]


@pytest.mark.parametrize("bar", [np.s_[30:60], np.s_[:, 41:101]])
def test_image_and_label_stay_aligned_when_both_shrink(bar: tuple[slice, ...]) -> None:
    label = np.zeros((90, 120), np.uint8)
    label[bar] = 1
    image = np.repeat(label[..., None] * 255, 3, 2)
    small_image, small_label = resize_image(image, (31, 37)), resize_label(label, (31, 37))
    np.testing.assert_array_equal(small_image[..., 0] > 127, small_label == 1)
