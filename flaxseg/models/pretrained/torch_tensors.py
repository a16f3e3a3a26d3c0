"""PyTorch's storages and tensors, as a pickle describes them, and their conversion to arrays."""

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
    # Any nonzero byte is True in a file, while numpy assumes 0 or 1.
    "Bool": (np.uint8, np.bool_),
}
"""For each kind of number: its type in the file, and its type in the arrays returned."""

STORAGES = {f"torch.{kind}Storage": kind for kind in _DTYPES} | {"torch.storage.UntypedStorage": "Byte"}
"""The kind of number in each class of PyTorch's storages."""

ByteOrder = Literal["little", "big"]


@dataclass(frozen=True)
class Storage:
    """The memory of one or several tensors.

    Attributes:
      kind: the kind of its numbers, one of STORAGES' values.
      key: its name in the file.
      length: number of numbers.
    """

    kind: str
    key: str
    length: int

    @property
    def nbytes(self) -> int:
        """Its size in the file, in bytes."""
        return self.length * np.dtype(_DTYPES[self.kind][0]).itemsize


@dataclass(frozen=True)
class Tensor:
    """A view of a storage that does not exceed it.

    Attributes:
      storage: the storage.
      offset: index of the first number in the storage.
      shape: the tensor's shape.
      strides: stride of each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensor_of(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Returns a tensor from the arguments of PyTorch's functions that rebuild one.

    Raises:
      TypeError, ValueError: they do not describe a tensor, or the tensor exceeds its storage.
    """
    if not isinstance(storage, Storage) or not all(map(_are_sizes, (shape, strides, (offset,)))):
        raise TypeError("it has a tensor with an invalid storage, offset, shape or strides")
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
    """Returns tensors as arrays.

    Args:
      state: tensors by their names.
      read: returns the bytes of a storage; it is called once for each storage.
      path: path of the file, for messages and for the plausible size of its contents.
      order: byte order of the file.
      max_bytes: limit on the size of the arrays together.

    Returns:
      An array for each tensor, none of which share memory; bfloat16 becomes float32.

    Raises:
      WeightsError: together they take more memory than is plausible for the file's size, or more than `max_bytes`.
      ValueError: a storage has the wrong number of bytes.
    """
    sizes = (np.dtype(_DTYPES[t.storage.kind][1]).itemsize * math.prod(t.shape) for t in state.values())
    check_size(sum(sizes), path, max_bytes=max_bytes)
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
    """Returns the numbers of a storage, [length]."""
    if len(data) != storage.nbytes:
        raise ValueError(f"its storage {storage.key} has {len(data)} bytes instead of {storage.nbytes}")
    stored, wanted = (np.dtype(kind) for kind in _DTYPES[storage.kind])
    raw = np.frombuffer(data, np.dtype(f"u{stored.itemsize}").newbyteorder("<" if order == "little" else ">"))
    return raw.astype(f"u{stored.itemsize}", copy=False).view(stored).astype(wanted, copy=False)


def _view(numbers: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns a tensor as a view of its storage's numbers, which `Tensor` guarantees to exist."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    # An axis of length 1 can have any stride, even one that exceeds the address space.
    byte_strides = [
        stride * numbers.itemsize if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, byte_strides, writeable=False)
