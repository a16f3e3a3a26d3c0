"""Weights as a safetensors file, beside the description of the network that they belong to."""

from pathlib import Path

import safetensors.numpy

from flaxseg.deploy.saved import WEIGHTS_NAME as FILE_NAME
from flaxseg.deploy.weights import named_arrays
from flaxseg.inference.description import FILE_NAME as DESCRIPTION
from flaxseg.inference.description import ModelDescription
from flaxseg.models.protocol import Variables


def write_weights(folder: Path, variables: Variables, description: ModelDescription) -> None:
    """Writes `model.safetensors` and `model.json` into a folder.

    Arrays are named for their paths, such as `params/head/kernel` and `batch_stats/encoder/stem/norm/mean`, and stored
    in their own types; a kernel of 8-bit integers comes with its scale, such as `params/head/kernel:scale`.

    Args:
      folder: an existing folder.
      variables: `params` and perhaps `batch_stats`, from `stored_weights`.
      description: the network.
    """
    arrays = named_arrays(variables)
    # A single entry: several are written in a random order, and the file would not be reproducible.
    (folder / FILE_NAME).write_bytes(safetensors.numpy.save(arrays, metadata={"format": "flax"}))
    (folder / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
