"""Reads safetensors files."""

import math
import mmap
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from flaxseg.errors import WeightsError, reason
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.models.pretrained.limits import DOWNLOAD_AGAIN, MAX_BYTES, check_size, explain_damage
from flaxseg.models.pretrained.mapped_file import map_file

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16,
    "U8": np.uint8, "BOOL": np.uint8,
}  # fmt: skip


def is_safetensors(head: bytes) -> bool:
    """Returns whether a file begins like a safetensors file: with a header's length, and the header's brace."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def read_safetensors(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Returns the tensors of a safetensors file.

    Args:
      path: path of the file.
      max_bytes: limit on the file's size.

    Returns:
      Arrays by their name, sorted by name, in the tensors' types; bfloat16 is that of ml_dtypes. They are views of the
      file, which is read when they are used, so that it must not be truncated before.

    Raises:
      WeightsError: the file is damaged, its header does not fit its contents, or a tensor's type is not supported.
    """
    with explain_damage(path):
        check_size(path.stat().st_size, path, max_bytes=max_bytes)
        data = map_file(path)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        if length > min(len(data) - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise WeightsError(
                f"{path}: its header claims to be {length:,} bytes long, but the file has {len(data):,}, and a header "
                f"at most {_MAX_HEADER_BYTES:,}; it is truncated or damaged: {DOWNLOAD_AGAIN}"
            )
        _check_header(path)
        start = _LENGTH_BYTES + length
        header = parse_json(data[_LENGTH_BYTES:start].decode("utf-8"))
        return {
            name: _array(data, start, tensor, f"{path}: its tensor {name!r}")
            for name, tensor in sorted(header.items())
            if name != _METADATA
        }


def _check_header(path: Path) -> None:
    """Checks that the tensors follow one another without gaps, have the sizes of their shapes, and fill the file."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path}: its header does not fit its contents ({reason(error)}); it is truncated or damaged: "
            f"{DOWNLOAD_AGAIN}"
        ) from error


def _array(data: mmap.mmap, start: int, tensor: dict, what: str) -> np.ndarray:
    """Returns a tensor as a view of the file, or booleans as a copy.

    Args:
      data: the file.
      start: where the tensors begin in it.
      tensor: the tensor's entry in the header.
      what: what messages call the tensor.
    """
    kind, shape = tensor["dtype"], tensor["shape"]
    if kind not in _DTYPES:
        raise WeightsError(f"{what} has type {kind}; supported are {', '.join(_DTYPES)}: save it as one of them")
    values = np.frombuffer(data, _DTYPES[kind], math.prod(shape), start + tensor["data_offsets"][0]).reshape(shape)
    # Any nonzero byte is True in a file, while numpy assumes 0 or 1.
    return values.astype(np.bool_) if kind == "BOOL" else values
