"""Reads npz files."""

import io
import math
from pathlib import Path

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import MAX_BYTES, explain_damage
from flaxseg.models.pretrained.zip_members import open_zip, read_member

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SUFFIX = ".npy"


def read_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Returns the arrays of numbers in a file of np.savez() or np.savez_compressed().

    Unlike np.load, it bounds the memory that a malicious file can take, and its errors name the array.

    Args:
      path: path of the file.
      max_bytes: limit on the size of the arrays together.

    Returns:
      Arrays by their name, in the file's order.

    Raises:
      WeightsError: the file is damaged, contains something other than arrays of numbers, or unpacks to an
        implausible size.
    """
    with explain_damage(path), open_zip(path, max_bytes=max_bytes) as archive:
        names = archive.namelist()
        others = [name for name in names if not name.endswith(_SUFFIX)]
        if others or not names:
            raise WeightsError(
                f"{path}: is a zip file {f'that contains {others[0]!r}' if others else 'without contents'}, so neither "
                "np.savez() nor torch.save() wrote it; if it is an archive of the weights file, unpack it"
            )
        return {
            name.removesuffix(_SUFFIX): _array(read_member(archive, name, path), f"{path}: its array {name!r}")
            for name in names
        }


def _array(data: bytes, what: str) -> np.ndarray:
    """Returns the array in an .npy file; no memory is allocated before its header is checked against its size."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise WeightsError(f"{what} has version {version} of the format; 1.0 and 2.0 are supported")
    shape, is_fortran, dtype = _HEADERS[version](file)
    if dtype.kind not in "fiub":
        contents = "pickled Python objects, which are never loaded" if dtype.hasobject else f"values of type {dtype}"
        raise WeightsError(f"{what} contains {contents}; save arrays of float32, float16 or integers")
    size, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if size != found:
        raise ValueError(f"{what} has {found:,} bytes of numbers instead of {size:,}")
    values = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")
    return values.astype(dtype.newbyteorder("="))
