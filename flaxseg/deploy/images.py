"""Images that a user gives, as files, Pillow images or arrays, brought to the form that a network takes."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flaxseg.data.decode.images import decode_image, decode_reduced
from flaxseg.data.decode.intensities import convert_channels, to_intensities
from flaxseg.data.decode.limits import MAX_MEGAPIXELS, check_size
from flaxseg.data.decode.pillow_files import image_pixels
from flaxseg.data.resize import resize_image
from flaxseg.data.sources.files import read_file
from flaxseg.errors import ArgumentError, DataError, did_you_mean, number_of
from flaxseg.inference.description import ModelDescription


@dataclasses.dataclass(frozen=True)
class NetworkImage:
    """An image as the network takes it.

    Attributes:
      pixels: uint8 or float32[h, w, C] in 0..255, with the network's number of channels.
      size: the height and width of the image as it was given.
      name: its name in messages.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    name: str


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Brings images to the form that a network takes, as the evaluation of its training did.

    Attributes:
      description: describes the network.
      max_megapixels: image files of more million pixels are rejected before they are decoded.
    """

    description: ModelDescription
    max_megapixels: float = MAX_MEGAPIXELS

    def __call__(self, image: Any) -> NetworkImage:
        """Returns an image as the network takes it.

        Args:
          image: the path of a file; a Pillow image; or an array [H, W] or [H, W, C] of uint8, of float in 0..255, or of
            uint16, whose range is that of files.

        Raises:
          DataError: the file does not exist, or cannot be read or decoded, or has another number of channels than the
            network.
          ArgumentError: not an image, or values out of range.
        """
        name = _name(image)
        if isinstance(image, str | os.PathLike):
            return self.decode(_read(image), name=name)
        pixels = self._given(image, name)
        return self._resized(pixels, (pixels.shape[0], pixels.shape[1]), name)

    def decode(self, data: bytes, *, name: str) -> NetworkImage:
        """Returns the image in a whole file as the network takes it.

        Raises:
          DataError: the image cannot be decoded, or has another number of channels than the network.
        """
        given = self.description
        pixels, size = decode_reduced(
            data,
            name=name,
            min_size=given.image_size if given.resize == "stretch" else None,
            max_megapixels=self.max_megapixels,
            value_range=given.value_range,
        )
        return self._resized(self._with_channels(pixels, name), size, name)

    def prepare(self, values: np.ndarray, *, name: str) -> np.ndarray:
        """Returns the stored values [h, w, C] of a part of an image as the network takes them, uint8 or float32.

        Raises:
          DataError: values that nothing maps to 0..255, or another number of channels than the network's.
        """
        pixels = to_intensities(values, name=name, value_range=self.description.value_range)
        return self._with_channels(np.ascontiguousarray(pixels), name)

    def original(self, image: Any) -> np.ndarray:
        """Returns an image at its own size, uint8 or float32[H, W, C], for display; takes what a call takes."""
        name = _name(image)
        if not isinstance(image, str | os.PathLike):
            return self._given(image, name)
        return self.decode_original(_read(image), name=name)

    def decode_original(self, data: bytes, *, name: str) -> np.ndarray:
        """Returns the image in a whole file at its own size, uint8 or float32[H, W, C], for display."""
        return decode_image(
            data, name=name, max_megapixels=self.max_megapixels, value_range=self.description.value_range
        )

    def _resized(self, pixels: np.ndarray, size: tuple[int, int], name: str) -> NetworkImage:
        if self.description.resize == "stretch":
            target = self.description.image_size
        else:
            height, width = (max(round(side * self.description.scale), 1) for side in size)
            target = height, width
        return NetworkImage(resize_image(pixels, target), size, name)

    def _given(self, image: Any, name: str) -> np.ndarray:
        """Returns a Pillow image or an array as uint8 or float32[H, W, C]."""
        if isinstance(image, Image.Image):
            check_size(name, *image.size, self.max_megapixels)
            pixels = to_intensities(image_pixels(image, name=name), name=name, value_range=self.description.value_range)
        else:
            pixels = _intensities(np.asarray(image), name, self.description)
        return self._with_channels(np.ascontiguousarray(pixels), name)

    def _with_channels(self, pixels: np.ndarray, name: str) -> np.ndarray:
        channels, found = self.description.channels, pixels.shape[2]
        if found != channels and not {channels, found} <= {1, 3}:
            if (found, channels) == (4, 3):
                remedy = "if the fourth is transparency, give image[..., :3], or Image.fromarray(image)"
            elif channels in (1, 3):
                remedy = "give an RGB image, or a gray one"
            else:
                remedy = f"give an image of {number_of(channels, 'channel')}, in the order of the training images"
            raise DataError(
                f"{name}: has {number_of(found, 'channel')}, but the network was trained on images of {channels}; "
                f"{remedy}"
            )
        return convert_channels(pixels, channels, name=name)


def _read(image: str | os.PathLike[str]) -> bytes:
    """Returns the bytes of the file that a user names."""
    path = Path(image).expanduser()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the path of one image, or a list of paths")
    if not path.exists():
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise DataError(
            f"{path}: does not exist{did_you_mean(path.name, siblings)}; give the path of an image, as seen from "
            f"{Path.cwd()}"
        )
    return read_file(str(path))


def _name(image: Any) -> str:
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return getattr(image, "filename", "") or "the image"


def _intensities(array: np.ndarray, name: str, description: ModelDescription) -> np.ndarray:
    """Returns an array as uint8 or float32[H, W, C] in 0..255."""
    problem, shape = "", array.shape
    if array.ndim not in (2, 3) or 0 in shape:
        problem = "must have the shape [H, W] or [H, W, C]; give several images as a list"
    elif array.ndim == 3 and shape[0] == description.channels and shape[2] not in (1, 3, 4, shape[0]):
        problem = f"must have its {shape[0]} channels last, [H, W, C]; use image.transpose(1, 2, 0)"
    elif array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        problem = "must be uint8, uint16, or float in 0..255; convert it"
    if problem:
        raise ArgumentError("image", f"{array.dtype}{list(shape)}", problem)
    pixels = array if array.ndim == 3 else array[..., None]
    if array.dtype.kind != "f":
        return to_intensities(
            pixels, name=name, value_range=description.value_range if array.dtype != np.uint8 else None
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):
        problem = f"must have values in 0..255, but has {low:g} to {high:g}; undo its normalization"
    elif 0 < high <= 1:
        problem = f"must have values in 0..255, but none is above {high:g}; multiply an image in 0..1 by 255"
    if problem:
        raise ArgumentError("image", f"{array.dtype}{list(shape)}", problem)
    return pixels.astype(np.float32)
