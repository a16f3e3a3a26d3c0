"""The jitted functions of a run."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.data.types import Batch
from flaxseg.inference.scorer import Scorer
from flaxseg.inference.scoring import predicted_label
from flaxseg.ops.platform import compiler_options
from flaxseg.train import device_cache
from flaxseg.train.build import Run
from flaxseg.train.partitioner import partition_safely, reduce_once
from flaxseg.train.parts.optimization import CONSTANTS, Hyperparameters, OptimizationPart
from flaxseg.train.sharding import batch_divisor, place_batch, replicated
from flaxseg.train.step import TrainState, predict_logits
from flaxseg.train.step_check import NOT_TAKEN, select
from flaxseg.train.step_metrics import TrainMetrics


class Turn(NamedTuple):
    """Which step it is, and whether it may be skipped: arguments of the jitted step, so that they compile once."""

    number: int | jax.Array
    """Number of steps before it. Only if it equals `state.step` is the step taken, because steps are dispatched before
    the host knows whether those before them are finite."""
    skipped: int | jax.Array
    """int32 scalar on the devices, `metrics.check.skipped` of the step before: number of steps skipped so far."""
    max_skipped: int
    """Number of steps to skip in all."""


class Inputs(NamedTuple):
    """The arguments of the training program; see `Compiled.train`."""

    state: TrainState
    batch: Batch
    key: jax.Array
    stored: device_cache.Stored
    turn: Turn
    hyperparameters: Hyperparameters = CONSTANTS


class Call(NamedTuple):
    """What a call of the training program returns."""

    state: TrainState
    """The state after its last step."""
    metrics: TrainMetrics
    """The metrics of its step; with several steps per call, each array has a leading axis of steps."""
    skipped: jax.Array
    """int32 scalar: number of steps skipped so far."""


class Compiled(NamedTuple):
    """The jitted functions of a run, which compile when they are first called and preserve the state's sharding."""

    train: Callable[..., Call]
    """(state, batch, key, stored, turn, hyperparameters) -> Call; donates the state. A batch of indices is looked up in
    `stored`, the training set on the devices. `turn` is a `Turn`. With several steps per call, the arrays of the batch
    have a leading axis of steps, and `turn` is that of the first one. `hyperparameters` may be left out; those that are
    given replace the constants of the run."""
    logits: Callable[..., Any]
    """(state, image) -> logits"""
    score: Scorer
    """(logits, batch on the host) -> metrics."""
    label: Callable[..., Any]
    """(logits, index, size, extent, canvas=, rows_last=) -> the prediction of one image; see `predicted_label`."""


def compile_run(run: Run, state: TrainState) -> Compiled:
    """Returns the jitted functions of a run, for states with the sharding of `state`."""
    placement: Any = jax.tree.map(lambda x: x.sharding, state)
    everywhere: Any = replicated(run.loop.mesh)
    model = partition_safely(run.model.model, run.loop.mesh)
    plan = run.loop.evaluation
    score = Scorer(
        metrics=plan.metrics,
        scale=plan.scale,
        # With several processes, none knows the sizes of the labels of the others.
        shards=batch_divisor(run.loop.mesh) if jax.process_count() == 1 else 0,
        place=functools.partial(place_batch, mesh=run.loop.mesh),
        sharding=everywhere,
    )
    return Compiled(
        train=jax.jit(
            training_program(run),
            donate_argnums=0,
            out_shardings=Call(placement, everywhere, everywhere),
            compiler_options=options_of(run),
        ),
        logits=jax.jit(
            functools.partial(predict_logits, model=model), compiler_options=compiler_options(platform=_platform(run))
        ),
        score=score,
        label=jax.jit(
            functools.partial(predicted_label, scale=plan.scale),
            static_argnames=("canvas", "rows_last"),
            out_shardings=everywhere,
        ),
    )


def options_of(run: Run) -> dict[str, Any]:
    """Returns the compiler's options for the training program of a run."""
    return compiler_options(remat=run.model.remat != "none", platform=_platform(run))


def _platform(run: Run) -> str:
    return run.loop.mesh.devices.flat[0].platform


def training_program(run: Run) -> Callable[..., Call]:
    """Returns the training program of a run before it is jitted; see `Compiled.train`."""
    mesh = run.loop.mesh
    model = partition_safely(run.model.model, mesh)

    def step(
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        stored: device_cache.Stored,
        turn: Turn,
        optim: OptimizationPart,
    ) -> tuple[TrainState, TrainMetrics]:
        if stored:
            batch = {**batch, **device_cache.take(stored, batch["index"], mesh)}
        with reduce_once(mesh):
            return _in_turn(state, *optim.step_of(model)(state, batch, key), turn)

    def train(
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        stored: device_cache.Stored,
        turn: Turn,
        hyperparameters: Hyperparameters = CONSTANTS,
    ) -> Call:
        optim = run.optim.of(hyperparameters)
        if run.loop.call.steps == 1:
            state, metrics = step(state, batch, key, stored, turn, optim)
            return Call(state, metrics, metrics.check.skipped)

        def body(before: tuple[TrainState, Any], inputs: tuple[Batch, Any]) -> tuple[tuple[TrainState, Any], Any]:
            (state, skipped), (batch, offset) = before, inputs
            now = Turn(turn.number + offset, skipped, turn.max_skipped)
            state, metrics = step(state, batch, key, stored, now, optim)
            return (state, metrics.check.skipped), metrics

        offsets = jnp.arange(run.loop.call.steps)
        (state, skipped), metrics = jax.lax.scan(body, (state, jnp.asarray(turn.skipped)), (batch, offsets))
        return Call(state, metrics, skipped)

    return train


def _in_turn(state: TrainState, new: TrainState, metrics: TrainMetrics, turn: Turn) -> tuple[TrainState, TrainMetrics]:
    """Returns the state and metrics after a step that is only taken, or skipped, when it is its turn."""
    check = metrics.check
    is_due = state.step == turn.number
    is_skipped = is_due & (check.code != 0) & (turn.skipped < turn.max_skipped)
    new = new.replace(step=jnp.where(is_skipped, state.step + 1, new.step))  # type: ignore[attr-defined]
    check = check.replace(  # type: ignore[attr-defined]
        code=jnp.where(is_due, check.code, NOT_TAKEN), skipped=turn.skipped + is_skipped.astype(jnp.int32)
    )
    return select(is_due, new, state), metrics.replace(check=check)  # type: ignore[attr-defined]
