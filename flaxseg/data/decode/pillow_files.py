"""Reads files with Pillow, so that every error names the file."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from flaxseg.data.decode.limits import REMEDY, check_size, decoding_errors, too_large_error
from flaxseg.errors import DataError


def open_image(data: bytes, *, name: str, max_megapixels: float, load: bool = True) -> Image.Image:
    """Returns the Pillow image in `data`, before its EXIF orientation is applied.

    Args:
      data: a whole file.
      name: the name of the file, for messages.
      max_megapixels: images of more million pixels are rejected.
      load: decode the pixels, too.

    Raises:
      DataError: no data, an unknown format, damage, or more than `max_megapixels`.
    """
    if not data:
        raise DataError(f"{name}: is empty (0 bytes); {REMEDY}")
    if Image.MAX_IMAGE_PIXELS and max_megapixels * 1e6 > Image.MAX_IMAGE_PIXELS:
        # Pillow's own limit of 89 megapixels must not reject what the caller allows.
        Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
    with decoding_errors(name):
        try:
            image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            raise DataError(
                f"{name}: is not an image of a known format (it begins with {data[:8]!r}); {REMEDY}"
            ) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise too_large_error(name, "far more", max_megapixels) from None
        check_size(name, *image.size, max_megapixels)
        if load:
            image.load()
        return image


def exif_orientation(image: Image.Image, *, name: str) -> int:
    """Returns the EXIF orientation as stored, 1..8 in valid files; 1 is upright.

    Raises:
      DataError: the file is damaged; of some formats, Pillow reads the pixels first.
    """
    with decoding_errors(name):
        return image.getexif().get(ExifTags.Base.Orientation, 1)


def apply_exif_orientation(image: Image.Image, *, name: str) -> Image.Image:
    """Returns the image rotated and mirrored as its EXIF data requests.

    Raises:
      DataError: invalid EXIF data.
    """
    with decoding_errors(name):
        return ImageOps.exif_transpose(image) if exif_orientation(image, name=name) != 1 else image


def image_pixels(image: Image.Image, *, name: str) -> np.ndarray:
    """Returns the pixels of an image, upright, [H, W, 3]: gray is repeated, and transparency dropped.

    Raises:
      DataError: the pixels cannot be decoded, or invalid EXIF data.
    """
    image = apply_exif_orientation(image, name=name)
    with decoding_errors(name):
        if image.mode.startswith("I") or image.mode == "F":
            return np.repeat(np.asarray(image)[..., None], 3, axis=2)
        if image.mode in ("P", "PA"):
            # Pillow warns about a palette with transparency unless it is converted by way of RGBA.
            image = image.convert("RGBA")
        return np.array(image.convert("RGB"))
