"""The training batches of a run, from whichever cache it has."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.data.types import Batch
from flaxseg.train.build import Run
from flaxseg.train.device_cache import Stored
from flaxseg.train.feature_cache import encode_dataset
from flaxseg.train.step import TrainState


def training_data(run: Run, state: TrainState) -> tuple[Any, Stored]:
    """Fills the run's cache; returns its training batches, and the training set on the devices or {}.

    Args:
      run: the run.
      state: the state of the run, with the parameters of a frozen encoder.

    Raises:
      DataError: an example cannot be read, or there is too little memory.
    """
    data = run.data
    if data.views is not None:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        cache = encode_dataset(data.views, run.model, variables, run.loop.mesh, augment_fn=run.optim.view_fn)
        return data.train_batches.map(cache.batch), {}
    return data.train_batches, data.load_cache() if data.load_cache else {}


def read_batch(run: Run, step: int) -> Batch:
    """Returns this process's part of the batch of step `step`, from 0, read from the dataset.

    Images are those before the augmentation of a step; cached views are augmented already.

    Raises:
      DataError: an example cannot be read.
    """
    batch, views = run.data.read_batch(step), run.data.views
    if views is None:
        return batch
    pairs = zip(
        batch["index"].tolist(), np.broadcast_to(batch.get("view", 0), len(batch["index"])).tolist(), strict=True
    )
    found: list[Mapping[str, np.ndarray]] = [views.augmented(*pair, run.optim.view_fn) for pair in pairs]
    return {**batch, **{name: np.stack([each[name] for each in found]) for name in ("image", "label")}}
