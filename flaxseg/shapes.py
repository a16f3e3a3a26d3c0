"""Checks of the shapes and data types of batches; under jit they run while a function is traced, at no cost later."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.errors import ArgumentError, FlaxsegError, did_you_mean

_OTHER_NAMES = {"mask": "label", "masks": "label", "labels": "label", "target": "label", "images": "image"}
"""What the keys of batches are called elsewhere."""


class ArrayError(ArgumentError):
    """An array, or a batch of arrays, does not fit; the message is `ARGUMENT DESCRIPTION: PROBLEM`.

    Attributes:
      argument: its name, such as `label`.
      value: a description, such as its data type and shape.
      problem: what is wrong with it, what is allowed, and the remedy.
    """

    def __init__(self, argument: str, value: str, problem: str) -> None:
        FlaxsegError.__init__(self, f"{argument} {value}: {problem}")
        self.argument = argument
        self.value = value
        self.problem = problem

    def under(self, group: str) -> "ArrayError":
        """Returns the same error, because arrays are members of no group of options."""
        return self


def check_batch(batch: Any, keys: tuple[str, ...] = ("image", "label")) -> None:
    """Raises ArrayError unless a batch is a mapping that has some keys, with images [B, H, W, C].

    An `image` that is not an array, such as a frozen encoder's features, is accepted.

    Args:
      batch: what should be a batch.
      keys: the keys that it must have.
    """
    if not isinstance(batch, Mapping):
        kind = type(batch).__name__
        raise ArrayError("batch", f"of type {kind}", f"must be a dict with the keys {' and '.join(keys)}")
    missing = [key for key in keys if key not in batch]
    if missing:
        given = {key: _OTHER_NAMES.get(str(key).lower(), "") for key in batch}
        renamed = [f"{key!r} to {name!r}" for key, name in given.items() if name in missing]
        others = [str(key) for key in batch if key not in keys]
        remedy = f"; rename {', '.join(renamed)}" if renamed else did_you_mean(missing[0], others)
        raise ArrayError(
            "batch",
            f"with the keys {', '.join(map(str, batch)) or '(none)'}",
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{remedy}",
        )
    if hasattr(batch["image"], "shape"):
        check_image(batch["image"])


def check_image(image: Any) -> None:
    """Raises ArrayError unless images have the four dimensions [B, H, W, C].

    Args:
      image: what should be images; an array or `jax.ShapeDtypeStruct`.
    """
    if len(image.shape) != 4:
        remedy = "; use image[None] for a single image" if len(image.shape) == 3 else ""
        raise ArrayError("image", described(image), f"must be [B, H, W, C]{remedy}")


def check_channels(image: Any, channels: int) -> None:
    """Raises ArrayError unless images have a number of channels.

    Args:
      image: the images, [B, H, W, C].
      channels: the number of channels that the network was made for.
    """
    if image.shape[-1] != channels:
        remedy = "; create its state with images like these"
        if image.shape[1] == channels:
            remedy = " in the last axis; use image.transpose(0, 2, 3, 1)"
        raise ArrayError("image", described(image), f"the network was made for {_channels(channels)}{remedy}")


def check_label(label: Any, shape: tuple[int, ...], *, logits: Any = None, of: str = "the logits") -> None:
    """Raises ArrayError unless labels are class indices of a shape; the message says how to convert them.

    Args:
      label: what should be integer[...].
      shape: the shape that it must have.
      logits: the logits [..., K] that the shape comes from; None if it comes from predictions.
      of: what the shape comes from, for the message.
    """
    given = tuple(label.shape)
    is_float = not (np.issubdtype(label.dtype, np.integer) or label.dtype == bool)
    if given == shape and not is_float:
        return
    if logits is not None and _are_classes_second(logits.shape, given, shape):
        raise ArrayError(
            "logits", described(logits), "must have the classes in the last axis; use jnp.moveaxis(logits, 1, -1)"
        )
    classes = None if logits is None else logits.shape[-1]
    wanted = f"must have the shape of {of}{' without the classes' if classes else ''}, {list(shape)}"
    if given == shape:
        raise ArrayError("label", described(label), "must be integers, class indices; use label.astype(int)")
    raise ArrayError("label", described(label), f"{wanted}{_remedy(given, shape, classes)}")


def described(array: Any) -> str:
    """Returns the data type and shape of an array, such as `uint8[8, 64, 64]`."""
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def _remedy(given: tuple[int, ...], shape: tuple[int, ...], classes: int | None) -> str:
    """Returns how labels of a shape become those of another, as a clause; nothing where that is unclear."""
    if given == (*shape, 1):
        return "; use label[..., 0]"
    if shape and given == (shape[0], 1, *shape[1:]):
        return "; use label[:, 0]"
    if classes and given == (*shape, classes):
        return "; use label.argmax(-1) of one-hot labels"
    if classes and shape and given == (shape[0], classes, *shape[1:]):
        return "; use label.argmax(1) of one-hot labels"
    if shape and shape[0] == 1 and given == shape[1:]:
        return "; use label[None]"
    return ""


def _are_classes_second(logits: tuple[int, ...], given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether logits [B, K, H, W] fit labels [B, H, W], [B, 1, H, W] or [B, H, W, 1]."""
    if len(logits) < 3 or given == shape:
        return False
    pixels = (logits[0], *logits[2:])
    return given in (pixels, (pixels[0], 1, *pixels[1:]), (*pixels, 1))


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"
