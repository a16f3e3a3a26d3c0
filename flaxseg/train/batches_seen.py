"""Training batches as the network sees them, and their gradients, outside of the training step."""

import functools
from typing import Any

import jax
import numpy as np

from flaxseg.data.types import Batch
from flaxseg.train.build import Run
from flaxseg.train.partitioner import partition_safely, reduce_once
from flaxseg.train.sharding import place_batch, replicated
from flaxseg.train.step import TrainState, loss_and_gradient, step_keys
from flaxseg.train.training_data import read_batch


class BatchesSeen:
    """Reads the batch of any step again and augments it like the step, with programs that compile on first use.

    The batch of a step depends on the run's seed and the step alone. With several processes, all have to call the same
    methods in the same order.

    Args:
      run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._images = jax.jit(self._first, static_argnums=3, out_shardings=replicated(run.loop.mesh))
        self._gradient = jax.jit(self._gradient_of)

    def images(self, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first images of the batch of step `step`, from 0, after augmentation, with their labels.

        Args:
          step: number of steps before it.
          count: the largest number of images.

        Returns:
          float32 or uint8[N, H, W, C] in 0..255, and uint8[N, H, W].
        """
        if self._run.optim.augment_fn is None:
            batch = read_batch(self._run, step, count=count)
            return batch["image"], batch["label"]
        images, labels = self._images(self._placed(step), self._run.loop.step_key, np.int32(step), count)
        return np.asarray(images), np.asarray(labels)

    def gradient(self, state: TrainState) -> Any:
        """Returns the gradient that the next step after a state takes, in the structure of its parameters."""
        return self._gradient(state, self._placed(int(state.step)), self._run.loop.step_key)

    def _placed(self, step: int) -> Batch:
        return place_batch(read_batch(self._run, step), self._run.loop.mesh)

    def _augmented(self, batch: Batch, key: jax.Array) -> Batch:
        augment_fn = self._run.optim.augment_fn
        return augment_fn(key, batch) if augment_fn else batch

    def _first(self, batch: Batch, key: jax.Array, step: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        batch = self._augmented(batch, step_keys(key, step)[0])
        return batch["image"][:count], batch["label"][:count]

    def _gradient_of(self, state: TrainState, batch: Batch, key: jax.Array) -> Any:
        run, (augment_key, dropout_key) = self._run, step_keys(key, state.step)
        gradient = functools.partial(
            loss_and_gradient,
            model=partition_safely(run.model.model, run.loop.mesh),
            loss_fn=run.optim.loss_fn,
            options=run.optim.step_options,
        )
        with reduce_once(run.loop.mesh):
            return gradient(state, self._augmented(batch, augment_key), dropout_key)[1]
