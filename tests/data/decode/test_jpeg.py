"""JPEGs decoded at a fraction of their size: the fraction, the accuracy, and the reported stored size."""

import io

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.decode.images import decode_image, decode_reduced
from flaxseg.data.resize import resize_image


def jpeg(height: int, width: int, *, orientation: int = 1) -> bytes:
    """Returns a JPEG of smooth waves, different for each color."""
    y, x = np.indices((height, width)) / 120
    waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(3 * y)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray((127.5 + 120 * waves).astype(np.uint8)).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "orientation", "min_size", "expected"),
    [
        ((80, 160), 1, None, (80, 160)),
        ((80, 160), 1, (41, 41), (80, 160)),
        ((80, 160), 1, (40, 80), (40, 80)),
        ((80, 160), 1, (40, 81), (80, 160)),
        ((80, 160), 1, (20, 20), (20, 40)),
        ((159, 319), 1, (10, 10), (20, 40)),
        ((81, 161), 1, (10, 10), (41, 81)),
        ((81, 161), 1, (11, 11), (81, 161)),
        ((80, 160), 1, (1, 1), (10, 20)),
        ((80, 160), 6, (80, 40), (80, 40)),
        ((80, 160), 6, (40, 80), (160, 80)),
        ((80, 160), 3, (40, 80), (40, 80)),
    ],
)
def test_the_strongest_reduction_within_the_limits_is_used(
    size: tuple[int, int], orientation: int, min_size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    image, stored = decode_reduced(jpeg(*size, orientation=orientation), name="x", min_size=min_size)
    assert image.shape == (*expected, 3)
    assert stored == (size[::-1] if orientation == 6 else size)


@pytest.mark.parametrize("orientation", [1, 8])
@pytest.mark.parametrize("size", [(240, 320), (239, 319)])
def test_a_reduced_image_resizes_to_the_same_as_the_full_one(size: tuple[int, int], orientation: int) -> None:
    data = jpeg(*size, orientation=orientation)
    image, _ = decode_reduced(data, name="x", min_size=(24, 24))
    whole = decode_image(data, name="x")
    assert image.shape[0] == -(-whole.shape[0] // 8)
    difference = np.abs(resize_image(image, (24, 24)).astype(float) - resize_image(whole, (24, 24)))
    assert difference.mean() < 1.5


def test_other_formats_are_never_reduced() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "PNG")
    image, stored = decode_reduced(buffer.getvalue(), name="x", min_size=(4, 4))
    assert image.shape == (48, 64, 3) and stored == (48, 64)
