"""Reads a weights file of any format; the format is detected from the contents."""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import DOWNLOAD_AGAIN, explain_damage
from flaxseg.models.pretrained.npz_file import read_npz
from flaxseg.models.pretrained.safetensors_file import is_safetensors, read_safetensors
from flaxseg.models.pretrained.torch_file import read_torch, read_torch_shapes, torch_folder
from flaxseg.models.pretrained.zip_members import MAGIC

_PICKLE = b"\x80"
_LFS_POINTER = b"version https://git-lfs.github.com/"
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{8,64}")
_HEAD_BYTES = 512
_FORMATS = "supported are safetensors, npz, and what torch.save() writes (.pt, .pth, .bin)"


def read_weights(path: str | Path, *, sha256: str = "") -> dict[str, np.ndarray]:
    """Returns the arrays of a safetensors, npz or PyTorch file, regardless of its name.

    Args:
      path: path of the file; `~` stands for the home directory.
      sha256: the file's expected SHA-256, or its first 8 or more digits, in hexadecimal; "": not checked.

    Returns:
      Arrays by their name in the file, in its types. Those of a safetensors file are views of it, which are read when
      they are used; see `mapped_file`.

    Raises:
      WeightsError: there is no such file, its SHA-256 differs, it is something else (a folder, a web page, a Git LFS
        pointer), it is damaged, or it contains something other than arrays of numbers.
    """
    # Unlike Path.expanduser, this keeps the name of an unknown user instead of raising.
    path = Path(os.path.expanduser(path))
    with explain_damage(path):
        head = _head(path)
    if sha256:
        _check_sha256(path, sha256)
    return _read(path, head)


def weight_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the arrays in a weights file by their names, without reading the arrays.

    Args:
      path: as for `read_weights`; {} for an npz file.

    Raises:
      WeightsError: as for `read_weights`.
    """
    path = Path(os.path.expanduser(path))
    with explain_damage(path):
        head = _head(path)
    if _is_torch(path, head):
        return read_torch_shapes(path)
    return {name: array.shape for name, array in read_safetensors(path).items()} if is_safetensors(head) else {}


def _head(path: Path) -> bytes:
    """Returns the first bytes of a file that can contain weights."""
    if path.is_dir():
        raise WeightsError(f"{path}: is a directory; give the file of weights in it")
    if not path.exists():
        raise WeightsError(f"{path}: does not exist; give the path of a weights file: {_FORMATS}")
    if not path.is_file():
        raise WeightsError(f"{path}: is a device or a pipe; give a file")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise WeightsError(f"{path}: is empty (0 bytes): {DOWNLOAD_AGAIN}")
    if head.startswith(_LFS_POINTER):
        raise WeightsError(
            f"{path}: is a Git LFS pointer, which only stands for the weights; run `git lfs pull` in its repository, "
            "or download the file itself from the repository's page"
        )
    if _WEB_PAGE.match(head):
        raise WeightsError(
            f"{path}: is a web page (it begins with {head[:30]!r}), saved under the name of the weights; download them "
            "with the link of the file itself, and log in first if that is required"
        )
    return head


def _read(path: Path, head: bytes) -> dict[str, np.ndarray]:
    if _is_torch(path, head):
        return read_torch(path)
    if head.startswith(MAGIC):
        return read_npz(path)
    if is_safetensors(head):
        return read_safetensors(path)
    raise WeightsError(f"{path}: is not a weights file; it begins with {head[:8]!r}, and {_FORMATS}")


def _is_torch(path: Path, head: bytes) -> bool:
    if head.startswith(MAGIC):
        with explain_damage(path), zipfile.ZipFile(path) as archive:
            return torch_folder(archive.namelist()) is not None
    return head.startswith(_PICKLE) and not is_safetensors(head)


def _check_sha256(path: Path, wanted: str) -> None:
    if not _SHA256.fullmatch(wanted):
        raise WeightsError(
            f"{path}: sha256 = {wanted!r} is not a SHA-256; give its 64 hexadecimal digits, or at least the first 8"
        )
    with explain_damage(path), path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted.lower()):
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, but {wanted} is expected; it is another file, or damaged: "
            f"{DOWNLOAD_AGAIN}, or give this file's SHA-256 if it is the right one"
        )
