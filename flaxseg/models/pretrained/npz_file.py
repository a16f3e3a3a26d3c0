"""Files of np.savez() as arrays."""

import io
import math
from pathlib import Path

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import MAX_BYTES, damage_explained
from flaxseg.models.pretrained.zip_members import open_zip, read_member

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SUFFIX = ".npy"


def read_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Reads the arrays of numbers in a file of np.savez() or np.savez_compressed().

    Args:
      path: of the file.
      max_bytes: the most that they may take.

    Returns:
      Arrays by their name, in the file's order.

    Raises:
      WeightsError: the file is damaged, holds something else than arrays of numbers, or unfolds to more than its size
        can hold.
    """
    with damage_explained(path), open_zip(path, max_bytes=max_bytes) as archive:
        names = archive.namelist()
        others = [name for name in names if not name.endswith(_SUFFIX)]
        if others or not names:
            raise WeightsError(
                f"{path}: is a zip file {f'that holds {others[0]!r}' if others else 'that holds nothing'}, so it is "
                "neither of np.savez() nor of torch.save(); if it is an archive around the weights, unpack it"
            )
        return {
            name.removesuffix(_SUFFIX): _array(read_member(archive, name, path), f"{path}: its array {name!r}")
            for name in names
        }


def _array(data: bytes, what: str) -> np.ndarray:
    """An array from the contents of an .npy file, which np.load would set memory aside for by its header alone."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise WeightsError(f"{what} is of version {version} of the format; 1.0 and 2.0 hold plain numbers and are read")
    shape, is_fortran, dtype = _HEADERS[version](file)
    if dtype.kind not in "fiub":
        held = "pickled Python objects, which are never loaded" if dtype.hasobject else f"values of type {dtype}"
        raise WeightsError(f"{what} holds {held}; save arrays of float32, float16 or whole numbers")
    size, there = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if size != there:
        raise ValueError(f"{what} has {there:,} bytes of numbers instead of {size:,}")
    values = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")
    return values.astype(dtype.newbyteorder("="))
