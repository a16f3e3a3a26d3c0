"""A backbone in the layout of transformers, which several types of networks can have."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.torch_names import TorchNames


def _unchanged(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return tensors


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How a backbone is read.

    Attributes:
      options: `options(settings)` returns the options of a network with this backbone, among them `encoder`, and raises
        WeightsError for a setting that has no counterpart here.
      names: its modules, with the prefix `backbone.`.
      prepare: changes the tensors of a file before their names are looked up.
    """

    options: Callable[[Settings], dict[str, Any]]
    names: TorchNames
    prepare: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = _unchanged
