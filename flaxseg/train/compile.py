"""A run on its devices: the jitted functions, and batches that come to them in time."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flaxseg.data.types import Batch
from flaxseg.train import device_cache, sharding
from flaxseg.train.build import Experiment
from flaxseg.train.step import TrainState, predict_logits, score_logits, train_step


class Compiled(NamedTuple):
    """The jitted functions of a run; all keep the state where it is."""

    step: Callable[..., Any]
    """(state, batch, key, stored) -> (state, metrics); takes the state's memory. A batch of indices is looked up in
    what is stored on the devices."""
    logits: Callable[..., Any]
    """(state, image) -> logits"""
    score: Callable[..., Any]
    """(logits, batch) -> metrics. Apart from the network, as labels at their own resolution come in several shapes."""
    label: Callable[..., Any]
    """logits -> most likely classes"""


def compile_run(experiment: Experiment, state: TrainState, config: ConfigDict) -> Compiled:
    """Returns the functions of a run whose states are placed as this one; they compile when they are first called."""
    placement, everywhere = jax.tree.map(lambda x: x.sharding, state), sharding.replicated(experiment.mesh)
    model = sharding.gathered(experiment.model, experiment.mesh)
    fixed_step = functools.partial(
        train_step,
        model=model,
        loss_fn=experiment.loss_fn,
        tx=experiment.tx,
        augment_fn=experiment.augment_fn,
        ema_decay=experiment.ema_decay,
        frozen=experiment.frozen,
        accumulate_steps=config.optimizer.accumulate_steps,
        hardest=config.log.hardest,
    )

    def step(state: TrainState, batch: Batch, key: jax.Array, stored: device_cache.Stored) -> Any:
        if stored:
            batch = {**batch, **device_cache.take(stored, batch["index"], experiment.mesh)}
        return fixed_step(state, batch, key)

    return Compiled(
        step=jax.jit(step, donate_argnums=0, out_shardings=(placement, everywhere)),
        logits=jax.jit(functools.partial(predict_logits, model=model)),
        score=jax.jit(functools.partial(score_logits, metrics=tuple(config.eval.metrics)), out_shardings=everywhere),
        label=jax.jit(lambda logits: logits.argmax(-1).astype(jnp.uint8), out_shardings=everywhere),
    )


def placed(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Batch]:
    """Yields batches on the devices, one transfer ahead of the step that uses it."""
    ahead: deque[Batch] = deque()
    for batch in batches:
        ahead.append(sharding.place_batch(batch, mesh))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
