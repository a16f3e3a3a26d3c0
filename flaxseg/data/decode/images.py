"""The one way in which pictures and masks become arrays, and change their size."""

import cv2
import numpy as np

from flaxseg.data.decode import jpeg, png
from flaxseg.data.decode.intensities import ValueRange, to_intensities
from flaxseg.data.decode.limits import MAX_MEGAPIXELS, named_damage
from flaxseg.data.decode.pillow_files import open_picture, orientation, turned_upright
from flaxseg.data.decode.tiff_npy import is_array_file, read_array, upright
from flaxseg.data.masks.class_colors import without_table
from flaxseg.errors import DataError


def decode_image(
    data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS, value_range: ValueRange | None = None
) -> np.ndarray:
    """The picture in `data`, upright, with values of 0..255.

    What the bytes hold decides the format, not the name. TIFF and NPY files give the channels that they hold (see
    `arrays.read_array`). All others give RGB: gray and palette pictures become RGB, CMYK is converted, transparency is
    dropped (not blended), and of several frames the first is read. A turning or mirroring in the EXIF data is carried
    out, as viewers and annotation programs do. A mask that was drawn over the raw, lying picture then mostly has
    another size, which the readers of pairs report; where it has not (a square picture, or one turned by 180 degrees
    or mirrored), nothing tells that it does not belong to the upright one.

    Args:
      data: a whole file: TIFF, NPY, or any format that Pillow reads: JPEG, PNG, GIF, BMP, WebP, ...
      name: what a message calls it: the file, or the key in the dataset.
      max_megapixels: pictures of more million pixels are refused.
      value_range: the stored values that become 0 and 255, as of `flaxseg.data.decode.intensities.to_intensities`.

    Returns:
      uint8[H, W, C] for files of 8 bits a channel; float32[H, W, C] in 0..255 for wider ones and with `value_range`.

    Raises:
      DataError: unreadable or cut-off data, too many pixels, NaN, or a type of values that needs `value_range`.
    """
    return decode_reduced(data, name=name, at_least=None, max_megapixels=max_megapixels, value_range=value_range)[0]


def decode_reduced(
    data: bytes,
    *,
    name: str,
    at_least: tuple[int, int] | None,
    max_megapixels: float = MAX_MEGAPIXELS,
    value_range: ValueRange | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode_image`, but a JPEG that is much larger than needed is decoded at a half, 1/4 or 1/8 of its sides.

    That is several times faster. The edges stay in place to an eighth of a pixel of `at_least`.

    Args:
      data: a whole file.
      name: what a message calls it.
      at_least: the height and width that the reduced picture must not go below; None for no reduction.
      max_megapixels: pictures of more million pixels are refused.
      value_range: as of `decode_image`.

    Returns:
      The picture, and the height and width at which it is stored; both upright.

    Raises:
      DataError: as `decode_image`.
    """
    if data.startswith(jpeg.SIGNATURE):
        header = jpeg.read_header(data, name=name, max_megapixels=max_megapixels)
        decoded = jpeg.decode_jpeg(data, header, at_least=at_least) if header.components != 4 else None
        if decoded is not None:
            return to_intensities(decoded[0], name=name, value_range=value_range), decoded[1]
    pixels = _stored_pixels(data, name, max_megapixels)
    image = np.ascontiguousarray(to_intensities(pixels, name=name, value_range=value_range))
    return image, (image.shape[0], image.shape[1])


def orientation_of(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> int:
    """How `decode_image` turns or mirrors a picture: its EXIF orientation, 1..8; 1 for not at all, and TIFF and NPY.

    Raises:
      DataError: as `decode_image`, as far as it shows before pixels are decoded.
    """
    if is_array_file(data):
        return 1
    if data.startswith(jpeg.SIGNATURE):
        found = jpeg.read_header(data, name=name, max_megapixels=max_megapixels).orientation
    else:
        found = orientation(open_picture(data, name=name, max_megapixels=max_megapixels, load=False))
    # Damaged EXIF data may hold anything, which turns nothing.
    return found if found in range(1, 9) else 1


def decode_label(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """The mask in `data`: the values that the file stores, one a pixel.

    Gray values and palette indices are taken as they are stored (never the palette's colors; gray of 1, 2 or 4 bits
    is not spread over 0..255); an RGB mask whose three channels are equal is gray. TIFF and NPY masks may be of any
    type that holds whole numbers of 0..255. EXIF as in `decode_image`.

    Args:
      data: a whole file.
      name: what a message calls it.
      max_megapixels: masks of more million pixels are refused.

    Returns:
      uint8[H, W].

    Raises:
      DataError: as `decode_image`, and for a JPEG, a colored mask, or values above 255.
    """
    if data.startswith(jpeg.SIGNATURE):
        raise DataError(
            f"{name}: is a JPEG, which changes values to save space, so that classes cannot be told by them; save the "
            "mask as PNG, from before it became a JPEG"
        )
    if is_array_file(data):
        return _one_value(read_array(data, name=name, max_megapixels=max_megapixels).pixels, name)
    plain = _plain_png(data, name, max_megapixels)
    if plain is not None:
        return plain if plain.ndim == 2 else _one_value(plain, name)
    image = turned_upright(open_picture(data, name=name, max_megapixels=max_megapixels), name=name)
    if image.mode in ("P", "1"):
        return np.array(image, np.uint8)
    if image.mode == "L":
        # Pillow spreads a PNG's gray of 2 or 4 bits over 0..255; a label is the number that was stored.
        bits = data[24] if data.startswith(png.SIGNATURE) else 8
        return np.array(image) >> (8 - bits) if bits < 8 else np.array(image)
    values = np.array(image)
    if image.mode in ("LA", "PA"):
        return np.ascontiguousarray(values[..., 0])
    if values.ndim == 3 and image.mode not in ("RGB", "RGBA"):
        values = np.array(image.convert("RGB"))
    return _one_value(values if values.ndim == 3 else values[..., None], name)


def read_palette(data: bytes, *, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray | None:
    """The colors of a palette file, uint8[N, 3], or None if it has no palette.

    Raises:
      DataError: as `decode_image`.
    """
    if is_array_file(data):
        return read_array(data, name=name, max_megapixels=max_megapixels).palette
    image = open_picture(data, name=name, max_megapixels=max_megapixels, load=False)
    colors = image.getpalette("RGB") if image.mode == "P" else None
    return np.array(colors, np.uint8).reshape(-1, 3) if colors else None


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` at another size: each axis by area averaging where it shrinks to a half or less, else bilinear.

    Bilinear still reads every pixel of an axis that keeps more than half of its length, and is several times faster.

    Args:
      image: uint8 or float32[H, W, C].
      size: the new height and width.

    Returns:
      [size[0], size[1], C] of the same type; `image` itself if it has that size.
    """
    height, width = (new if 2 * new <= old else old for old, new in zip(image.shape, size, strict=False))
    return _resample(_resample(image, (height, width), cv2.INTER_AREA), tuple(size), cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`label` at another size: each pixel takes the value found at its center, as seen by `resize_image`.

    Args:
      label: uint8[H, W].
      size: the new height and width.

    Returns:
      uint8[size[0], size[1]]; `label` itself if it has that size.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (_centers(old, new) for old, new in zip(label.shape, size, strict=True))
    return label[rows].take(columns, axis=1)


def _resample(image: np.ndarray, size: tuple[int, ...], method: int) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    # cv2 averages up to four channels at once, and drops the axis of a single one.
    groups = (image[..., first : first + 4] for first in range(0, image.shape[2], 4))
    resized = [cv2.resize(group, size[::-1], interpolation=method).reshape(*size, group.shape[2]) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def _centers(old: int, new: int) -> np.ndarray:
    """For each of `new` pixels, which of `old` pixels its center lies in: exact, in integers."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _stored_pixels(data: bytes, name: str, max_megapixels: float) -> np.ndarray:
    """[H, W, C] as stored and upright; RGB but for TIFF and NPY."""
    if is_array_file(data):
        stored = read_array(data, name=name, max_megapixels=max_megapixels)
        return stored.pixels if stored.palette is None else stored.palette[stored.pixels[..., 0]]
    plain = _plain_png(data, name, max_megapixels)
    if plain is not None:
        return plain if plain.ndim == 3 else cv2.cvtColor(plain, cv2.COLOR_GRAY2RGB)
    image = open_picture(data, name=name, max_megapixels=max_megapixels)
    if data.startswith(png.SIGNATURE) and data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):
        # Pillow has dropped the lower eight bits.
        return upright(_decode_wide_png(data, name), orientation(image))
    image = turned_upright(image, name=name)
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(np.asarray(image)[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        # Pillow warns of a palette with transparency unless it goes by way of RGBA.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _plain_png(data: bytes, name: str, max_megapixels: float) -> np.ndarray | None:
    is_png = data.startswith(png.SIGNATURE)
    return png.decode_plain_png(data, name=name, max_megapixels=max_megapixels) if is_png else None


def _decode_wide_png(data: bytes, name: str) -> np.ndarray:
    with named_damage(name):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("the pixels of a PNG of 16 bits")
        return pixels[..., 2::-1]


def _one_value(values: np.ndarray, name: str) -> np.ndarray:
    """[H, W, C] of any type to uint8[H, W], where that loses nothing."""
    if values.shape[2] in (3, 4) and values.dtype == np.uint8:
        if (values[..., :3] != values[..., :1]).any():
            raise without_table(values[..., :3], name=name)
    elif values.shape[2] != 1:
        raise DataError(
            f"{name}: has {values.shape[2]} channels of {values.dtype}, but a mask holds one number a pixel; save one "
            "channel of class indices"
        )
    values = values[..., 0]
    if values.dtype.kind not in "uifb" or not np.isfinite(values).all():
        raise DataError(f"{name}: holds {values.dtype} values that are no numbers; a mask has class indices of 0..255")
    if values.min() < 0 or values.max() > 255 or (values.dtype.kind == "f" and (values % 1).any()):
        raise DataError(
            f"{name}: has mask values from {values.min()} to {values.max()}, but labels are one byte; "
            "map the classes to 0..254 and ignored pixels to 255"
        )
    return np.ascontiguousarray(values, np.uint8)
