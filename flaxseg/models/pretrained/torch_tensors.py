"""Torch's storages and tensors: what a pickle says of them, and the arrays that they are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from flaxseg.models.pretrained.limits import check_size

_DTYPES: Mapping[str, tuple[Any, Any]] = {
    "Float": (np.float32, np.float32),
    "Double": (np.float64, np.float64),
    "Half": (np.float16, np.float16),
    "BFloat16": (ml_dtypes.bfloat16, np.float32),
    "Long": (np.int64, np.int64),
    "Int": (np.int32, np.int32),
    "Short": (np.int16, np.int16),
    "Char": (np.int8, np.int8),
    "Byte": (np.uint8, np.uint8),
    # Any byte can stand where a truth value should; numpy reckons with 0 and 1 alone.
    "Bool": (np.uint8, np.bool_),
}
"""For each kind of number: its type in the file, and here."""

STORAGES = {f"torch.{kind}Storage": kind for kind in _DTYPES} | {"torch.storage.UntypedStorage": "Byte"}
"""The kind of number that each class of torch's storages holds."""

ByteOrder = Literal["little", "big"]


@dataclass(frozen=True)
class Storage:
    """Where the numbers of tensors lie.

    Attributes:
      kind: of the numbers, one of STORAGES' values.
      key: its name in the file.
      length: how many numbers.
    """

    kind: str
    key: str
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.length * np.dtype(_DTYPES[self.kind][0]).itemsize


@dataclass(frozen=True)
class Tensor:
    """A view of a storage that lies within it.

    Attributes:
      storage: what is viewed.
      offset: of the first number.
      shape: of the tensor.
      strides: of each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensor_of(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """What torch's functions that build a tensor are called with, checked.

    Raises:
      TypeError, ValueError: it is no tensor, or one that reaches beyond its storage.
    """
    if not isinstance(storage, Storage) or not all(map(_are_sizes, (shape, strides, (offset,)))):
        raise TypeError("it has a tensor whose storage, offset, shape or strides are none")
    if len(shape) != len(strides):
        raise ValueError(f"it has a tensor of shape {shape} with strides {strides}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.length:
        raise ValueError(
            f"it has a tensor of shape {shape}, strides {strides} and offset {offset} "
            f"in a storage of {storage.length} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def arrays_of(
    state: Mapping[str, Tensor],
    read: Callable[[Storage], bytes],
    path: Path,
    *,
    order: ByteOrder,
    max_bytes: int,
) -> dict[str, np.ndarray]:
    """The arrays that tensors are.

    Args:
      state: the tensors by their names.
      read: the bytes of a storage; called once for each that a tensor needs.
      path: of the file, for messages and as the measure of what it can hold.
      order: of the bytes of a number in the file.
      max_bytes: the most that the arrays may take.

    Returns:
      An array of its own memory for each tensor; bfloat16 as float32.

    Raises:
      WeightsError: together they take more than the file can plausibly hold, or than `max_bytes`.
      ValueError: a storage has other bytes than it should.
    """
    taken = (np.dtype(_DTYPES[t.storage.kind][1]).itemsize * math.prod(t.shape) for t in state.values())
    check_size(sum(taken), path, max_bytes=max_bytes)
    by_storage: dict[Storage, list[str]] = {}
    for name, tensor in state.items():
        by_storage.setdefault(tensor.storage, []).append(name)
    arrays = {}
    for storage, names in by_storage.items():
        numbers = _numbers(read(storage), storage, order)
        arrays.update({name: _view(numbers, state[name]).copy() for name in names})
    return {name: arrays[name] for name in state}


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, int) and value >= 0 for value in values)


def _numbers(data: bytes, storage: Storage, order: ByteOrder) -> np.ndarray:
    """The numbers of a storage, [length]."""
    if len(data) != storage.nbytes:
        raise ValueError(f"its storage {storage.key} has {len(data)} bytes instead of {storage.nbytes}")
    stored, here = (np.dtype(kind) for kind in _DTYPES[storage.kind])
    raw = np.frombuffer(data, np.dtype(f"u{stored.itemsize}").newbyteorder("<" if order == "little" else ">"))
    return raw.astype(f"u{stored.itemsize}", copy=False).view(stored).astype(here, copy=False)


def _view(numbers: np.ndarray, tensor: Tensor) -> np.ndarray:
    """A tensor as a view of its storage's numbers, of which `Tensor` promises that they are there."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    # An axis of one number may have any stride, perhaps one that no address can have.
    steps = [
        stride * numbers.itemsize if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps, writeable=False)
