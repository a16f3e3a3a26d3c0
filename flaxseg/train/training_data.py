"""The training data of a run, from whichever cache it has."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from flaxseg.data.types import Batch
from flaxseg.train.build import Run
from flaxseg.train.device_cache import Stored
from flaxseg.train.feature_cache import encode_dataset
from flaxseg.train.parts.data import DataPart
from flaxseg.train.step import TrainState


def training_data(run: Run, state: TrainState) -> tuple[DataPart, Stored]:
    """Fills the run's cache; returns its data with complete training batches, and the training set on devices or {}.

    Args:
      run: the run.
      state: the state of the run, with the parameters of a frozen encoder.

    Raises:
      DataError: an example cannot be read, or there is too little memory.
    """
    data = run.data
    if data.views is not None:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        cache = encode_dataset(data.views, run.model, variables, run.loop.mesh)
        order = dataclasses.replace(data.order, batches=data.train_batches.map(cache.batch))
        return dataclasses.replace(data, order=order), {}
    return data, data.load_cache() if data.load_cache else {}


def read_batch(run: Run, step: int, *, count: int | None = None) -> Batch:
    """Returns this process's part of the batch of step `step`, from 0, read from the dataset.

    Images are those before the augmentation of a step; cached views are augmented already.

    Args:
      run: the run.
      step: number of steps before it.
      count: the number of examples to return, if there are more; None for all.

    Raises:
      DataError: an example cannot be read.
    """
    views = run.data.views
    batch = {name: values[:count] for name, values in run.data.read_batch(step).items()}
    if views is None:
        return batch
    numbers = np.broadcast_to(batch.get("view", 0), len(batch["index"]))
    pairs = zip(batch["index"].tolist(), numbers.tolist(), strict=True)
    found: list[Mapping[str, np.ndarray]] = [views.example(*pair) for pair in pairs]
    return {**batch, **{name: np.stack([each[name] for each in found]) for name in ("image", "label")}}
