"""What a trained network needs besides its weights: how to build it, what its images and its classes are."""

import dataclasses
import importlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from flaxseg.data.types import Color
from flaxseg.errors import ArgumentError, WeightsError, did_you_mean, shown
from flaxseg.models import MODELS, build_model
from flaxseg.models.arguments import ChannelValues
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.models.protocol import SegmentationModel
from flaxseg.registry import look_up, option_errors, option_names, options_of

FILE_NAME = "model.json"
"""The name of the file that describes the network of a run, and of an exported one."""

RESIZE_RULES = ("stretch", "keep")
"""How images reach the network: resized to `image_size`, or at their own scale."""

_FORMAT = 1
_MAX_NAME = 100
_GIVEN = ("num_classes", "dtype", "mean", "std")
"""Arguments of a network that have a field of their own."""

_FORMER = ("remat",)
"""Options of networks in earlier versions, which do not change what a trained network computes."""


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """What a run records about its network, so that its weights can be used without its configuration and data.

    Attributes:
      name: the network's name in MODELS, or `package.module:function`.
      options: every option of the network with its value.
      num_classes: the number of classes.
      channels: the number of channels of the images.
      image_size: the height and width of the images that it was trained on.
      class_names: one name per class.
      palette: one color per class, `(red, green, blue)` in 0..255.
      mean: subtracted from images with values 0..255: one number, or one per channel.
      std: standard deviation that the result is divided by: one number, or one per channel.
      resize: "stretch" if images were resized to `image_size`, "keep" if they kept their aspect ratio.
      scale: with "keep", the number that the sides of every image were multiplied by.
      precision: "float32" or "bfloat16", the data type of the activations.
      value_range: the values of image files that became 0 and 255; None where the file format defines them.
      temperature: what logits are divided by before the softmax, so that probabilities are calibrated.
      versions: the versions of flaxseg, jax and flax that trained it.
      source: where its weights, or those that its training began with, were published; "" if nowhere.
      license: the license of the published weights; "" without a source.
    """

    name: str
    options: Mapping[str, Any]
    num_classes: int
    channels: int
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    mean: ChannelValues
    std: ChannelValues
    resize: str = "stretch"
    scale: float = 1.0
    precision: str = "float32"
    value_range: Any = None
    temperature: float = 1.0
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise problem

    def build(self) -> SegmentationModel:
        """Returns the network, as it was trained.

        Raises:
          ArgumentError: the network's name or an option is unknown to this version of flaxseg.
        """
        entry = look_up(self.name, MODELS)
        names = option_names(entry)
        options = {key: value for key, value in self.options.items() if key in names or key not in _FORMER}
        if errors := option_errors(entry, options, key="options", given=_GIVEN):
            raise ArgumentError("options", options, "; ".join(errors))
        options.update((key, getattr(self, key)) for key in ("mean", "std") if key in names)
        return build_model(self.name, num_classes=self.num_classes, dtype=jnp.dtype(self.precision), **options)

    def to_json(self) -> str:
        """Returns the description as the text of a JSON file."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}
        return json.dumps({"format": _FORMAT, **plain}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, file: str = FILE_NAME) -> "ModelDescription":
        """Returns the description in the text of a JSON file.

        Args:
          text: what `to_json` returned.
          file: the name of the file, for messages.

        Raises:
          WeightsError: the text is not the description of a network; the message names the file and the key.
        """
        try:
            found = parse_json(text)
        except ValueError as error:
            raise WeightsError(f"{file}: is not JSON ({error}); {_REMEDY}") from None
        if not isinstance(found, dict) or "format" not in found:
            raise WeightsError(f"{file}: does not describe a network of flaxseg; {_REMEDY}")
        if found.pop("format") != _FORMAT:
            raise WeightsError(f"{file}: was written by a newer version of flaxseg; install that version")
        required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
        known = {field.name for field in dataclasses.fields(cls)}
        for key in sorted(found.keys() - known):
            raise WeightsError(f"{file}: has an unknown key {shown(key)}{did_you_mean(key, known)}; {_REMEDY}")
        for key in sorted(required - found.keys()):
            raise WeightsError(f"{file}: has no key {key!r}; {_REMEDY}")
        try:
            return cls(**{key: _as_tuples(value) for key, value in found.items()})
        except ArgumentError as error:
            raise WeightsError(f"{file}: {error}; {_REMEDY}") from error


_REMEDY = "restore the file, or repeat the command that trained the network, which writes it again"


def read_description(path: str | Path) -> ModelDescription:
    """Returns the description of a network in a JSON file.

    Raises:
      WeightsError: the file cannot be read, or does not describe a network.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    return ModelDescription.from_json(text, file=str(path))


def resolved_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns every option of a network with its value: those that are given, and the defaults of the others.

    Args:
      name: the network's name in MODELS, or `package.module:function`.
      options: the options that are given.
    """
    entry = look_up(name, MODELS)
    defaults = {
        option.name: option.default
        for option in options_of(entry)
        if not option.is_required and _is_plain(option.default)
    }
    return {key: _as_tuples(value) for key, value in {**defaults, **options}.items() if key not in _GIVEN}


def installed_versions() -> dict[str, str]:
    """Returns the versions of the packages that a network's outputs depend on, by name."""
    # By name, because the package itself imports this module.
    own = importlib.import_module("flaxseg").__version__
    return {"flaxseg": own, **{name: importlib.metadata.version(name) for name in ("jax", "flax")}}


def _problems(given: ModelDescription) -> list[ArgumentError]:
    """Returns an error for each attribute whose type or length is wrong."""
    classes = given.num_classes if _is_count(given.num_classes) else -1
    rules: dict[str, tuple[bool, str]] = {
        "name": (isinstance(given.name, str) and bool(given.name), "must be the name of a network"),
        "options": (_are_options(given.options), "must be a group of options, whose names are those of arguments"),
        "num_classes": (classes in range(1, 256), "must be an integer from 1 to 255"),
        "channels": (_is_count(given.channels), "must be an integer of at least 1"),
        "image_size": (_is_tuple_of(_is_count, given.image_size, 2), "must be 2 integers: height and width"),
        "class_names": (
            _is_tuple_of(lambda name: isinstance(name, str), given.class_names, classes),
            f"must be {classes} names, one per class",
        ),
        "palette": (
            _is_tuple_of(lambda color: _is_tuple_of(_is_byte, color, 3), given.palette, classes),
            f"must be {classes} colors (red, green, blue) in 0..255, one per class",
        ),
        "mean": (_are_channel_values(given.mean), "must be a number, or one number for each channel"),
        "std": (_are_channel_values(given.std), "must be a number, or one number for each channel"),
        "resize": (given.resize in RESIZE_RULES, f"must be one of {', '.join(map(repr, RESIZE_RULES))}"),
        "scale": (_is_number(given.scale) and given.scale > 0, "must be a number above 0"),
        "precision": (given.precision in ("float32", "bfloat16"), "must be 'float32' or 'bfloat16'"),
        "temperature": (_is_number(given.temperature) and given.temperature > 0, "must be a number above 0"),
        "versions": (isinstance(given.versions, Mapping), "must be a group of versions"),
        "source": (isinstance(given.source, str), "must be the name of a repository"),
        "license": (isinstance(given.license, str), "must be the name of a license"),
    }
    return [ArgumentError(key, getattr(given, key), text) for key, (holds, text) in rules.items() if not holds]


def _are_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(name.isidentifier() and len(name) <= _MAX_NAME for name in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_tuple_of(holds: Any, value: Any, length: int) -> bool:
    return isinstance(value, tuple) and len(value) == length and all(map(holds, value))


def _are_channel_values(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, tuple) and bool(value) and all(map(_is_number, value)))


def _as_tuples(value: Any) -> Any:
    """Returns a value with every list in it as a tuple, because Flax modules have to be hashable."""
    if isinstance(value, Mapping):
        return {key: _as_tuples(each) for key, each in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    """Returns whether JSON can hold a value."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
