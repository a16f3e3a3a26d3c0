"""Operations on the tensors of a file that change more than their names."""

from collections.abc import Mapping, Sequence

import numpy as np


def concatenated(tensors: Mapping[str, np.ndarray], parts: Sequence[str], whole: str) -> dict[str, np.ndarray]:
    """Returns tensors in which several layers with the same input, such as keys and values, are one layer.

    Args:
      tensors: by their names.
      parts: the names of the layers, between dots, in the order in which their outputs are concatenated.
      whole: the name of the one layer.
    """
    found = dict(tensors)
    for name in tensors:
        names = [name.replace(f".{parts[0]}.", f".{part}.") for part in parts]
        if f".{parts[0]}." in name and all(each in found for each in names):
            found[name.replace(f".{parts[0]}.", f".{whole}.")] = np.concatenate([found.pop(each) for each in names])
    return found
