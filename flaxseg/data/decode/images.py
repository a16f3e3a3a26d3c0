"""Decoding of images and masks of every format to arrays."""

import cv2
import numpy as np

from flaxseg.data.decode import jpeg, pillow_files, png
from flaxseg.data.decode.intensities import ValueRange, to_intensities
from flaxseg.data.decode.limits import MAX_MEGAPIXELS, decoding_errors
from flaxseg.data.decode.pillow_files import apply_exif_orientation, image_pixels, open_image
from flaxseg.data.decode.tiff_npy import apply_orientation, is_array_file, palette_colors, read_array
from flaxseg.data.masks.class_colors import colored_mask_error
from flaxseg.errors import DataError


def decode_image(
    data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS, value_range: ValueRange | None = None
) -> np.ndarray:
    """Decodes an image, upright, with values in 0..255.

    The format is determined by the content, not by the file name. TIFF and NPY files keep their channels
    (see `read_array`). All other formats give RGB: gray and palette images are converted to RGB, as is CMYK;
    transparency is dropped without blending; of several frames the first is read.

    The EXIF orientation is applied, as viewers and annotation tools do. A mask that was drawn over the unrotated image
    then usually has another size, which `PairSource` reports. Such a mask cannot be detected for a square image, or
    one that is mirrored or rotated by 180 degrees.

    Args:
      data: a whole file: TIFF, NPY, or any format that Pillow reads, such as JPEG, PNG, GIF, BMP and WebP.
      name: the name of the image, for messages: its file, or its key in the dataset.
      max_megapixels: images of more million pixels are rejected.
      value_range: the stored values that become 0 and 255. See `to_intensities`.

    Returns:
      uint8[H, W, C] for files of 8 bits per channel; float32[H, W, C] in 0..255 for more bits and with `value_range`.

    Raises:
      DataError: unreadable or truncated data, too many pixels, NaN, or a dtype that requires `value_range`.
    """
    return decode_reduced(data, name=name, min_size=None, max_megapixels=max_megapixels, value_range=value_range)[0]


def decode_reduced(
    data: bytes,
    *,
    name: str,
    min_size: tuple[int, int] | None,
    max_megapixels: float = MAX_MEGAPIXELS,
    value_range: ValueRange | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes an image like `decode_image`, but a JPEG much larger than needed at 1/2, 1/4 or 1/8 of its sides.

    That is several times faster. At `min_size`, the edges of the image are displaced by at most an eighth of a pixel.

    Args:
      data: a whole file.
      name: the name of the image, for messages.
      min_size: the height and width that the reduced image must not fall below; None for no reduction.
      max_megapixels: images of more million pixels are rejected.
      value_range: the stored values that become 0 and 255. See `to_intensities`.

    Returns:
      The image, and the height and width at which it is stored; both upright.

    Raises:
      DataError: unreadable or truncated data, too many pixels, NaN, or a dtype that requires `value_range`.
    """
    if data.startswith(jpeg.SIGNATURE):
        header = jpeg.read_header(data, name=name, max_megapixels=max_megapixels)
        decoded = jpeg.decode_jpeg(data, header, min_size=min_size) if header.components != 4 else None
        if decoded is not None:
            return to_intensities(decoded[0], name=name, value_range=value_range), decoded[1]
    pixels = _stored_pixels(data, name, max_megapixels)
    image = np.ascontiguousarray(to_intensities(pixels, name=name, value_range=value_range))
    return image, (image.shape[0], image.shape[1])


def exif_orientation(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> int:
    """Returns the EXIF orientation that `decode_image` applies, 1..8; 1 for none, and for TIFF and NPY.

    Raises:
      DataError: unreadable data or too many pixels according to the header.
    """
    if is_array_file(data):
        return 1
    if data.startswith(jpeg.SIGNATURE):
        found = jpeg.read_header(data, name=name, max_megapixels=max_megapixels).orientation
    else:
        image = open_image(data, name=name, max_megapixels=max_megapixels, load=False)
        found = pillow_files.exif_orientation(image, name=name)
    # Damaged EXIF data may contain any value; unknown ones are not applied.
    return found if found in range(1, 9) else 1


def decode_label(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decodes a mask: one value per pixel, as stored in the file.

    Gray values and palette indices are returned as stored: never the colors of the palette, and gray of 1, 2 or 4 bits
    is not scaled to 0..255. An RGB mask with three equal channels is gray. TIFF and NPY masks may have any dtype, as
    long as the values are integers in 0..255. The EXIF orientation is applied as in `decode_image`.

    Args:
      data: a whole file.
      name: the name of the mask, for messages.
      max_megapixels: masks of more million pixels are rejected.

    Returns:
      uint8[H, W].

    Raises:
      DataError: unreadable or truncated data, too many pixels, a JPEG, a colored mask, or values outside 0..255.
    """
    if data.startswith(jpeg.SIGNATURE):
        raise DataError(
            f"{name}: is a JPEG, whose compression changes the values of a mask; save the mask as PNG, from the data "
            "before it was compressed as JPEG"
        )
    if is_array_file(data):
        return _to_single_channel(read_array(data, name=name, max_megapixels=max_megapixels).pixels, name)
    plain = _decode_plain_png(data, name, max_megapixels)
    if plain is not None:
        return plain if plain.ndim == 2 else _to_single_channel(plain, name)
    image = apply_exif_orientation(open_image(data, name=name, max_megapixels=max_megapixels), name=name)
    if image.mode in ("P", "1"):
        return np.array(image, np.uint8)
    if image.mode == "L":
        # Pillow scales 2-bit and 4-bit gray of a PNG to 0..255, but a label is the number that is stored.
        bits = data[24] if data.startswith(png.SIGNATURE) else 8
        return np.array(image) >> (8 - bits) if bits < 8 else np.array(image)
    values = np.array(image)
    if image.mode in ("LA", "PA"):
        return np.ascontiguousarray(values[..., 0])
    if values.ndim == 3 and image.mode not in ("RGB", "RGBA"):
        values = np.array(image.convert("RGB"))
    return _to_single_channel(values if values.ndim == 3 else values[..., None], name)


def read_palette(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray | None:
    """Returns the colors of a palette file, uint8[N, 3], or None if it has no palette.

    Raises:
      DataError: unreadable or truncated data, or too many pixels.
    """
    if is_array_file(data):
        return read_array(data, name=name, max_megapixels=max_megapixels).palette
    image = open_image(data, name=name, max_megapixels=max_megapixels, load=False)
    with decoding_errors(name):
        # Pillow decodes the pixels first.
        colors = image.getpalette("RGB") if image.mode == "P" else None
    return np.array(colors, np.uint8).reshape(-1, 3) if colors else None


def _stored_pixels(data: bytes, name: str, max_megapixels: float) -> np.ndarray:
    """Returns [H, W, C] with the stored values, upright; RGB except for TIFF and NPY."""
    if is_array_file(data):
        stored = read_array(data, name=name, max_megapixels=max_megapixels)
        return stored.pixels if stored.palette is None else palette_colors(stored.pixels, stored.palette, name=name)
    plain = _decode_plain_png(data, name, max_megapixels)
    if plain is not None:
        return plain if plain.ndim == 3 else cv2.cvtColor(plain, cv2.COLOR_GRAY2RGB)
    image = open_image(data, name=name, max_megapixels=max_megapixels)
    if data.startswith(png.SIGNATURE) and data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):
        # Pillow has dropped the lower eight bits.
        return apply_orientation(_decode_16_bit_png(data, name), pillow_files.exif_orientation(image, name=name))
    return image_pixels(image, name=name)


def _decode_plain_png(data: bytes, name: str, max_megapixels: float) -> np.ndarray | None:
    is_png = data.startswith(png.SIGNATURE)
    return png.decode_plain_png(data, name=name, max_megapixels=max_megapixels) if is_png else None


def _decode_16_bit_png(data: bytes, name: str) -> np.ndarray:
    with decoding_errors(name):
        is_whole = png.has_whole_chunks(data)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if is_whole else None
        if pixels is None:
            raise ValueError("the pixels of a 16-bit PNG")
        return pixels[..., 2::-1]


def _to_single_channel(values: np.ndarray, name: str) -> np.ndarray:
    """Converts [H, W, C] of any dtype to uint8[H, W] where that loses nothing."""
    if values.shape[2] in (3, 4) and values.dtype == np.uint8:
        if (values[..., :3] != values[..., :1]).any():
            raise colored_mask_error(values[..., :3], name=name)
    elif values.shape[2] != 1:
        raise DataError(
            f"{name}: has {values.shape[2]} channels of {values.dtype}, but a mask has one number per pixel; save a "
            "single channel of class indices"
        )
    values = values[..., 0]
    if values.dtype.kind not in "uifb" or not np.isfinite(values).all():
        raise DataError(
            f"{name}: contains {values.dtype} values that are not finite numbers; a mask has class indices in 0..255"
        )
    if values.min() < 0 or values.max() > 255 or (values.dtype.kind == "f" and (values % 1).any()):
        raise mask_range_error(values, name)
    return np.ascontiguousarray(values, np.uint8)


def mask_range_error(values: np.ndarray, name: str) -> DataError:
    """Returns the error about mask values that are not integers in 0..255."""
    return DataError(
        f"{name}: has mask values from {values.min()} to {values.max()}, but labels are integers of one byte; map the "
        "classes to 0..254 and ignored pixels to 255"
    )
