"""Reads PyTorch checkpoints without PyTorch, and without running any code in them."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import DOWNLOAD_AGAIN, MAX_BYTES, check_size, explain_damage
from flaxseg.models.pretrained.torch_pickle import unpickled
from flaxseg.models.pretrained.torch_tensors import ByteOrder, Storage, Tensor, arrays_of
from flaxseg.models.pretrained.zip_members import MAGIC, open_zip, read_member

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "ema", "state_dict_ema", "model_ema")
"""Keys under which training programs store the weights among other things, in the order of preference."""

_MAX_DEPTH = 4
_MAX_LISTED = 8
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_HEADER_INSTRUCTIONS = 1000


def read_torch(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Returns the tensors that torch.save() wrote, in its zip format or in the format before PyTorch 1.6.

    If the file contains several state dicts, the one under the first key of WRAPPERS is read; everything but tensors
    is ignored.

    Args:
      path: path of the file.
      max_bytes: limit on the size of its contents.

    Returns:
      Arrays by the tensors' names, in the file's order and the tensors' types; bfloat16 becomes float32. They share no
      memory.

    Raises:
      WeightsError: the file is damaged, is not PyTorch's, contains code to run, contains no named tensors, or
        unpacks to an implausible size.
    """
    with explain_damage(path):
        check_size(path.stat().st_size, path, max_bytes=max_bytes)
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                file.seek(0)
                return _from_legacy(file, path, max_bytes)
        return _from_zip(path, max_bytes)


def read_torch_shapes(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors that `read_torch` returns, without reading their values.

    Args:
      path: path of the file.
      max_bytes: limit on the size of its contents.

    Raises:
      WeightsError: as for `read_torch`, except for damaged values.
    """
    with explain_damage(path):
        check_size(path.stat().st_size, path, max_bytes=max_bytes)
        if zipfile.is_zipfile(path):
            with open_zip(path, max_bytes=max_bytes) as archive:
                state, _ = _zip_state(archive, path)
        else:
            with path.open("rb") as file:
                state, _, _ = _legacy_state(file, path)
        return {name: tensor.shape for name, tensor in state.items()}


def torch_folder(members: Collection[str]) -> str | None:
    """Returns the folder of data.pkl in a zip file, with its slash; None if PyTorch did not write the file."""
    found = (name for name in members if name.count("/") == 1 and name.endswith("/data.pkl"))
    return next((name.removesuffix("data.pkl") for name in found), None)


def _from_zip(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    with open_zip(path, max_bytes=max_bytes) as archive:
        state, folder = _zip_state(archive, path)

        def read(storage: Storage) -> bytes:
            return read_member(archive, f"{folder}data/{storage.key}", path)

        return arrays_of(state, read, path, order=_byte_order(archive, f"{folder}byteorder", path), max_bytes=max_bytes)


def _zip_state(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, Tensor], str]:
    """Returns the tensors of a zip file by their names, and the folder that holds their values."""
    folder = torch_folder(archive.namelist())
    if folder is None:
        raise WeightsError(f"{path}: is a zip file without data.pkl, so torch.save() did not write it")
    tree, _ = unpickled(io.BytesIO(read_member(archive, f"{folder}data.pkl", path)), name=str(path))
    return _state_dict(tree, path), folder


def _byte_order(archive: zipfile.ZipFile, name: str, path: Path) -> ByteOrder:
    """Returns the byte order of the file; the first versions of the format did not store it, and were little-endian."""
    if name not in archive.namelist():
        return "little"
    order = read_member(archive, name, path).strip()
    if order not in (b"little", b"big"):
        raise WeightsError(f"{path}: its byte order is {order[:20]!r} instead of little or big: {DOWNLOAD_AGAIN}")
    return "little" if order == b"little" else "big"


def _from_legacy(file: BinaryIO, path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    state, storages, order = _legacy_state(file, path)
    offsets = _legacy_offsets(file, storages, order)

    def read(storage: Storage) -> bytes:
        file.seek(offsets[storage.key])
        return file.read(storage.nbytes)

    return arrays_of(state, read, path, order=order, max_bytes=max_bytes)


def _legacy_state(file: BinaryIO, path: Path) -> tuple[dict[str, Tensor], list[Storage], ByteOrder]:
    """Returns the tensors of a file by their names, its storages in their order, and its byte order."""
    magic, _ = unpickled(file, name=str(path), max_instructions=_HEADER_INSTRUCTIONS)
    if magic != _LEGACY_MAGIC:
        raise WeightsError(
            f"{path}: is a pickle, but torch.save() did not write it; save the weights as safetensors or npz, or in "
            "PyTorch"
        )
    protocol, _ = unpickled(file, name=str(path), max_instructions=_HEADER_INSTRUCTIONS)
    if protocol != _LEGACY_PROTOCOL:
        raise WeightsError(f"{path}: has another version of PyTorch's format than {_LEGACY_PROTOCOL}; save it again")
    system, _ = unpickled(file, name=str(path), max_instructions=_HEADER_INSTRUCTIONS)
    tree, storages = unpickled(file, name=str(path))
    keys, _ = unpickled(file, name=str(path))
    if not isinstance(system, dict) or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TypeError("its list of storages is not a list of names")
    if missing := set(storages) ^ set(keys):
        raise ValueError(f"its list of storages does not fit: {', '.join(sorted(missing)[:_MAX_LISTED])}")
    order: ByteOrder = "little" if system.get("little_endian", True) else "big"
    return _state_dict(tree, path), [storages[key] for key in keys], order


def _legacy_offsets(file: BinaryIO, storages: list[Storage], order: ByteOrder) -> dict[str, int]:
    """Returns the offset of each storage's numbers, which are preceded by their count."""
    offsets = {}
    for storage in storages:
        count = int.from_bytes(file.read(8), order, signed=True)
        if count != storage.length:
            raise ValueError(f"its storage {storage.key} has {count} numbers instead of {storage.length}")
        offsets[storage.key] = file.tell()
        file.seek(storage.nbytes, io.SEEK_CUR)
    end = file.tell()
    if end > file.seek(0, io.SEEK_END):
        raise EOFError(f"it should have {end:,} bytes, and has {file.tell():,}")
    return offsets


def _state_dict(tree: Any, path: Path) -> dict[str, Tensor]:
    found = _tensors(tree, _MAX_DEPTH)
    if not found:
        keys = [str(key) for key in tree] if isinstance(tree, dict) else []
        listing = f"its keys are {', '.join(keys[:_MAX_LISTED])}{', ...' if len(keys) > _MAX_LISTED else ''}"
        raise WeightsError(
            f"{path}: contains no tensors by name, neither at its top level nor under {', '.join(WRAPPERS)}; "
            f"{listing if keys else f'it is a {type(tree).__name__}'}. Save model.state_dict() alone"
        )
    return found


def _tensors(tree: Any, depth: int) -> dict[str, Tensor]:
    if not isinstance(tree, dict) or not depth:
        return {}
    for wrapper in WRAPPERS:
        if inner := _tensors(tree.get(wrapper), depth - 1):
            return inner
    return {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, Tensor)}
