"""The sample images of an evaluation that are shown with their predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.types import IGNORE_LABEL


class SampleImages:
    """The first few examples of an evaluation with their predictions, collected batch by batch.

    Args:
      count: number of examples to collect.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: list[tuple[np.ndarray, np.ndarray, Any, tuple[Any, ...]]] = []

    @property
    def rows(self) -> Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Image uint8[H, W, C], label uint8[h, w] at its native size, and prediction uint8[H, W] of each example."""
        return [(image, label, np.asarray(found)[place]) for image, label, found, place in self._rows]

    @property
    def wants_more(self) -> bool:
        """Whether examples of another batch are wanted."""
        return len(self._rows) < self._count

    def add(self, batch: Mapping[str, np.ndarray], prediction: np.ndarray) -> None:
        """Collects examples of a batch, except for padding.

        Args:
          batch: a batch on the host.
          prediction: the most likely class of each pixel, uint8[B, H, W]; on the devices, where it is read later.
        """
        for index, (image, label) in enumerate(zip(batch["image"], batch["label"], strict=True)):
            place: tuple[Any, ...] = (index,)
            if "size" in batch:
                height, width = batch["size"][index]
                label = label[:height, :width]
            if "extent" in batch:
                height, width = batch["extent"][index]
                image, place = image[:height, :width], (index, slice(height), slice(width))
            if self.wants_more and (label != IGNORE_LABEL).any():
                self._rows.append((image, label, prediction, place))
