"""A published network that is only a file of weights, without a description."""

from pathlib import Path

import numpy as np

from flaxseg.models.pretrained.files import read_weights, weight_shapes


class WeightsFile:
    """A file of weights, with what public networks need of a `Repository`.

    Args:
      source: the path of the file.

    Attributes:
      name: what messages call it.
      origin: what a record of the network calls it: its name without folders.
    """

    def __init__(self, source: str | Path) -> None:
        self._path = Path(source).expanduser()
        self.name, self.origin = str(source), self._path.name

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the tensors by their names; see `weight_shapes`."""
        return weight_shapes(self._path)

    def tensors(self, *, sha256: str = "") -> dict[str, np.ndarray]:
        """Returns the tensors by their names; see `read_weights`."""
        return read_weights(self._path, sha256=sha256)
