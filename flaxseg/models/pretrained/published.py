"""A trained network as a public repository describes it: how to build it, what its images and classes are."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flaxseg.errors import WeightsError, shown

MAX_CLASSES = 255
"""The largest number of classes of a network; labels are of one byte, and one value is for ignored pixels."""

Arrays = dict[str, np.ndarray]
"""Arrays by their path in a network's variables, such as `params/head/kernel`."""

Unknown = dict[str, tuple[int, ...]]
"""The shapes of tensors that no rule maps to a path, by their names in the file."""

Convert = Callable[[Any, Mapping[str, np.ndarray]], tuple[Arrays, Unknown]]
"""`convert(model, tensors)` returns the tensors of a file as arrays of the network."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the configuration of a repository says about a network.

    Attributes:
      name: the network's name in MODELS.
      options: its options, which the weights require.
      num_classes: the number of classes.
      channels: the number of channels of the images.
      convert: converts the tensors of the file; see `Convert`.
      class_names: one name per class; empty if the repository names none.
      tile: the height and width of the tiles that large images are predicted in, if the images keep their size; None:
        the usual ones.
      notes: what differs from the network's original library without changing its predictions; one sentence each.
    """

    name: str
    options: Mapping[str, Any]
    num_classes: int
    channels: int
    convert: Convert
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tile: tuple[int, int] | None = None


class Settings:
    """The keys of a JSON file, each of which has to be used or refused; the errors name the file and the key.

    Args:
      values: the content of the file.
      name: what messages call the file.
    """

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, Mapping):
            raise WeightsError(f"{name}: is not an object with the settings of a network; restore the file")
        self._values, self.name, self._used = values, name, set[str]()

    def take(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key, or the default without the key."""
        self._used.add(key)
        return self._values.get(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        """Returns the value of a key that has to be a string."""
        value = self.take(key, default)
        if not isinstance(value, str):
            raise self.error(key, value, "must be a name")
        return value

    def count(self, key: str, default: int | None = None, *, largest: int | None = None) -> int:
        """Returns the value of a key that has to be an integer of at least 1, and at most `largest`."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, value, "must be an integer of at least 1")
        if largest is not None and value > largest:
            raise self.error(key, value, f"must be at most {largest}")
        return value

    def require(self, key: str, allowed: Any, *, reason: str = "") -> None:
        """Refuses every value of a key but one, which is also the default.

        Raises:
          WeightsError: another value.
        """
        value = self.take(key, allowed)
        if plain(value) != plain(allowed) or isinstance(value, bool) != isinstance(allowed, bool):
            raise self.error(key, value, f"is not supported{reason}; only {shown(allowed)} is")

    def refuse_others(self, ignored: Callable[[str], bool] = lambda key: False) -> None:
        """Refuses the keys that were not used, unless they are ignored or None.

        Raises:
          WeightsError: there is such a key.
        """
        for key in sorted(self._values.keys() - self._used):
            if not ignored(key) and self._values[key] is not None:
                raise self.error(key, self._values[key], "is not supported, and could change the outputs")

    def error(self, key: str, value: Any, problem: str) -> WeightsError:
        """Returns the error about the value of a key."""
        return WeightsError(f"{self.name}: {key} = {shown(value)}: {problem}")


def plain(value: Any) -> Any:
    """Returns a value with every tuple in it as a list, as JSON holds it."""
    return list(map(plain, value)) if isinstance(value, list | tuple) else value
