"""Files that Pillow reads, opened so that every failure names the file."""

import io

from PIL import Image, ImageOps, UnidentifiedImageError

from flaxseg.data.decode.limits import RESTORE, check_size, named_damage, too_large
from flaxseg.errors import DataError

_ORIENTATION = 0x0112


def open_picture(data: bytes, *, name: str, max_megapixels: float, load: bool = True) -> Image.Image:
    """The Pillow image in `data`, not turned yet; its pixels are decoded unless `load` is False.

    Raises:
      DataError: no data, an unknown format, damage, or more than `max_megapixels`.
    """
    if not data:
        raise DataError(f"{name}: is empty (0 bytes); {RESTORE}")
    if Image.MAX_IMAGE_PIXELS and max_megapixels * 1e6 > Image.MAX_IMAGE_PIXELS:
        # Pillow's own limit, of 89 megapixels, has to give way where more are asked for.
        Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
    with named_damage(name):
        try:
            image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            begin = f"it begins with {data[:8]!r}"
            raise DataError(f"{name}: is no picture of a known format ({begin}); {RESTORE}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise too_large(name, "far more", max_megapixels) from None
        check_size(name, *image.size, max_megapixels)
        if load:
            image.load()
        return image


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 is upright."""
    return image.getexif().get(_ORIENTATION, 1)


def turned_upright(image: Image.Image, *, name: str) -> Image.Image:
    """`image` turned and mirrored as its EXIF data asks.

    Raises:
      DataError: EXIF data that makes no sense.
    """
    with named_damage(name):
        return ImageOps.exif_transpose(image) if orientation(image) != 1 else image
