"""What a public network expects of images, from the files of its repository."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from flaxseg.errors import shown
from flaxseg.models.arguments import ChannelValues
from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.repository import PREPROCESSOR, TRANSFORMS, Repository


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preparation of images with values 0..255.

    Attributes:
      mean: subtracted from images: one number, or one per channel; None: not stated.
      std: standard deviation that the result is divided by; None: not stated.
      image_size: the height and width that images are resized to; None: they keep their size.
      reduces_labels: in masks of the dataset, the value 0 is ignored and class k has the value k + 1.
      notes: what was ignored or assumed; one sentence each.
    """

    mean: ChannelValues | None = None
    std: ChannelValues | None = None
    image_size: tuple[int, int] | None = None
    reduces_labels: bool = False
    notes: tuple[str, ...] = ()


def read_preprocessing(repository: Repository) -> Preprocessing:
    """Returns what a repository states: as transformers' `preprocessor_config.json`, or as a saved albumentation.

    Raises:
      WeightsError: a file cannot be read, or has a value of a wrong type.
    """
    if (settings := repository.settings(PREPROCESSOR)) is not None:
        return _of_transformers(settings)
    if (settings := repository.settings(TRANSFORMS)) is not None:
        return _of_albumentations(settings)
    return Preprocessing()


def _of_transformers(settings: Settings) -> Preprocessing:
    # Without rescaling, images have values 0..255 when they are normalized.
    rescales = settings.take("do_rescale", True)
    unit = 1 / _number(settings, "rescale_factor", 1 / 255) if rescales else 1.0
    mean: ChannelValues = 0.0
    std: ChannelValues = unit
    if settings.take("do_normalize", True) and settings.take("image_mean") is not None:
        mean, std = _scaled(settings, "image_mean", unit), _scaled(settings, "image_std", unit)
    resizes = settings.take("do_resize", True)
    size = _size(settings) if resizes else None
    reduces = bool(settings.take("do_reduce_labels", settings.take("reduce_labels", False)))
    notes = ["masks of its dataset contain 0 for ignored pixels and k + 1 for class k (do_reduce_labels)"] * reduces
    if resizes and size is None and isinstance(edges := settings.take("size"), Mapping):
        given = {key: value for key, value in edges.items() if value is not None}
        notes.append(f"its images were resized to {shown(given)}; here, images keep their size")
    return Preprocessing(mean, std, size, reduces, tuple(notes))


def _size(settings: Settings) -> tuple[int, int] | None:
    """Returns the size of resized images; None if they are resized to a length of one of their sides."""
    size = settings.take("size")
    if isinstance(size, int) and not isinstance(size, bool):
        return (size, size)
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        height, width = size["height"], size["width"]
        if all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (height, width)):
            return (height, width)
        raise settings.error("size", size, "must be integers of at least 1")
    return None


def _of_albumentations(settings: Settings) -> Preprocessing:
    mean: ChannelValues | None = None
    std: ChannelValues | None = None
    image_size = None
    for kind, each in _transforms(settings):
        if kind == "Normalize":
            largest = _number(each, "max_pixel_value", 255.0)
            each.require("normalization", "standard")
            mean, std = _scaled(each, "mean", largest), _scaled(each, "std", largest)
        elif kind == "Resize":
            image_size = each.count("height"), each.count("width")
        elif kind not in ("ToTensorV2", "NoOp"):
            note = f"{settings.name}: the transform {kind} is not applied"
            return Preprocessing(mean, std, image_size, notes=(note,))
    return Preprocessing(mean, std, image_size)


def _transforms(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Yields the class and the settings of each transform, which are read as data: none is imported."""
    pipeline = settings.take("transform")
    listed = pipeline.get("transforms") if isinstance(pipeline, Mapping) else None
    for each in listed if isinstance(listed, list) else [pipeline]:
        inner = Settings(each, settings.name)
        yield inner.text("__class_fullname__", "").rpartition(".")[2], inner


def _scaled(settings: Settings, key: str, factor: float) -> ChannelValues:
    value = settings.take(key)
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise settings.error(key, value, "must be a number, or one number for each channel")
    return tuple(factor * n for n in numbers) if isinstance(value, list) else factor * value


def _number(settings: Settings, key: str, default: float) -> float:
    value: Any = settings.take(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise settings.error(key, value, "must be a number above 0")
    return float(value)
