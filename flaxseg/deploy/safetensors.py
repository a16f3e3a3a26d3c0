"""Weights as a safetensors file, beside the description of the network that they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util

from flaxseg.deploy.saved import WEIGHTS_NAME as FILE_NAME
from flaxseg.inference.description import FILE_NAME as DESCRIPTION
from flaxseg.inference.description import ModelDescription
from flaxseg.models.protocol import Variables


def write_weights(folder: Path, variables: Variables, description: ModelDescription) -> None:
    """Writes `model.safetensors` and `model.json` into a folder.

    Arrays are named for their paths, such as `params/head/kernel` and `batch_stats/encoder/stem/norm/mean`, and stored
    in their own types.

    Args:
      folder: an existing folder.
      variables: `params` and perhaps `batch_stats`.
      description: the network.
    """
    flat: Mapping[str, Any] = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {path: np.ascontiguousarray(value) for path, value in flat.items()}
    # A single entry: several are written in a random order, and the file would not be reproducible.
    (folder / FILE_NAME).write_bytes(safetensors.numpy.save(arrays, metadata={"format": "flax"}))
    (folder / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
