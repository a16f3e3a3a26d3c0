"""The plan of the training loop: its devices, its length, and when it logs, evaluates, saves and stops."""

import dataclasses
import math

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key
from flaxseg.errors import ConfigError, number_of
from flaxseg.train.sharding import EXAMPLES, batch_divisor, make_mesh


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """When and how a run is evaluated.

    Attributes:
      every: number of steps between evaluations; 0: never.
      batch_size: number of examples in a batch, over all devices.
      metrics: names of `metrics.METRICS` to compute in addition to the confusion matrix.
      images: number of images to show with their label and prediction.
      worst: number of images with the lowest IoU to show; above 0, `metrics` includes "per_image".
      tile: height and width of the tiles in which whole images are predicted; None if images are resized to one size.
      scale: the factor that the sides of images are multiplied by; None if images are resized to one size.
      patience: number of steps without a better score after which the run stops early; 0: never.
    """

    every: int
    batch_size: int
    metrics: tuple[str, ...]
    images: int
    worst: int
    tile: tuple[int, int] | None
    scale: float | None
    patience: int


@dataclasses.dataclass(frozen=True)
class CheckpointPlan:
    """When checkpoints are saved, and which are kept.

    Attributes:
      every: number of steps between checkpoints.
      keep: number of latest checkpoints to keep, in addition to the best.
      best_metric: the score whose highest value marks the best.
      retry_minutes: how long to wait, in minutes, where a checkpoint cannot be saved.
    """

    every: int
    keep: int
    best_metric: str
    retry_minutes: float


@dataclasses.dataclass(frozen=True)
class CallPlan:
    """What a call of the training program takes.

    Attributes:
      steps: number of steps, which divides the steps between logs, evaluations and checkpoints, and the total.
      batch_size: number of examples in the batch of each step, over all devices.
    """

    steps: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class FaultPlan:
    """What is done about faults.

    Attributes:
      policy: what is done about a step whose input, loss, gradient or update is not finite, and which is never taken:
        "stop", "skip" or "rollback".
      limit: number of steps to skip, or of times to roll back, before the run stops.
      stall_minutes: how long several processes may stand still, in minutes, before they exit; 0: forever.
      rollbacks: number of times that the run has returned to a checkpoint; changes the random key of the steps.
    """

    policy: str
    limit: int
    stall_minutes: float
    rollbacks: int = 0

    @property
    def max_skipped(self) -> int:
        """Number of steps to skip before the run stops."""
        return self.limit if self.policy == "skip" else 0

    @property
    def max_rollbacks(self) -> int:
        """Number of times to return to the last checkpoint before the run stops."""
        return self.limit if self.policy == "rollback" else 0


@dataclasses.dataclass(frozen=True)
class LoopPart:
    """The plan of the training loop.

    Attributes:
      mesh: the mesh of devices.
      seed: the random seed of the run, from which all random keys derive.
      total_steps: number of steps.
      call: what a call of the training program takes.
      log_every: number of steps between logged training scalars.
      evaluation: when and how the run is evaluated.
      checkpoints: when checkpoints are saved, and which are kept.
      faults: what is done about faults.
    """

    mesh: Mesh
    seed: int
    total_steps: int
    call: CallPlan
    log_every: int
    evaluation: EvaluationPlan
    checkpoints: CheckpointPlan
    faults: FaultPlan

    @property
    def step_key(self) -> jax.Array:
        """The random key of all training steps."""
        return step_key(self.seed, self.faults.rollbacks)

    def should_log(self, step: int) -> bool:
        """Returns whether training scalars are due after a step."""
        return step % self.log_every == 0

    def should_evaluate(self, step: int) -> bool:
        """Returns whether an evaluation is due after a step, as it always is after the last of a run that has any."""
        every = self.evaluation.every
        return every > 0 and (step % every == 0 or step == self.total_steps)

    def should_save(self, step: int) -> bool:
        """Returns whether a checkpoint is due after a step, as it always is after the last."""
        return step % self.checkpoints.every == 0 or step == self.total_steps

    def should_stop(self, step: int, best_step: int | None) -> bool:
        """Returns whether the run ends after a step: it is complete, or stops early."""
        return step >= self.total_steps or self.should_stop_early(step, best_step)

    def should_stop_early(self, step: int, best_step: int | None) -> bool:
        """Returns whether the best score was at least `patience` steps old at the last evaluation up to a step."""
        every, patience = self.evaluation.every, self.evaluation.patience
        return patience > 0 and step // every * every - (best_step or 0) >= patience


def step_key(seed: int, rollbacks: int = 0) -> jax.Array:
    """Returns the random key of all training steps of a run, which differs from that of its initial parameters.

    Args:
      seed: the random seed of the run.
      rollbacks: number of times that the run has returned to a checkpoint.
    """
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return jax.random.fold_in(key, rollbacks) if rollbacks else key


def build_mesh(config: ConfigDict) -> Mesh:
    """Returns the mesh of devices of a valid configuration.

    Raises:
      ConfigError: the mesh does not fit the devices, or a batch size is not a multiple of its shards.
    """
    with config_key("mesh"):
        mesh = make_mesh(**config.mesh)
    parts = batch_divisor(mesh)
    axes = " times ".join(f"mesh.{axis} = {mesh.shape[axis]}" for axis in EXAMPLES if mesh.shape[axis] > 1)
    messages = [
        f"config.{group}.batch_size = {config[group].batch_size}: does not divide over {parts} devices ({axes}); "
        f"use a multiple of {parts}, such as {-(-config[group].batch_size // parts) * parts}, or a smaller "
        "config.mesh.data"
        for group in ("train", "eval")
        if config[group].batch_size % parts
    ]
    if messages:
        raise ConfigError("\n".join(messages))
    accumulate_steps = config.optimizer.accumulate_steps
    if config.train.batch_size % (accumulate_steps * parts):
        raise ConfigError(
            f"config.train.batch_size = {config.train.batch_size}: does not divide into optimizer.accumulate_steps = "
            f"{accumulate_steps} micro-batches for {number_of(parts, 'device')}; use a multiple of "
            f"{accumulate_steps * parts}, or fewer micro-batches"
        )
    return mesh


def build_loop(config: ConfigDict, mesh: Mesh, *, num_examples: int) -> LoopPart:
    """Returns the plan of the training loop of a valid configuration, for a training set of `num_examples`."""
    per_call = config.train.steps_per_call
    _check_steps_per_call(config)
    steps_per_epoch = max(num_examples // config.train.batch_size, 1)
    total_steps = config.train.steps or per_call * max(round(config.train.epochs * steps_per_epoch / per_call), 1)
    # Once per epoch, but at most about twenty times per run, because the epochs of a small dataset are short.
    per_evaluation = per_call * max(round(steps_per_epoch / per_call), math.ceil(total_steps / 20 / per_call))
    evaluate_every = config.eval.every or min(per_evaluation, total_steps)
    keep = config.data.resize == "keep"
    return LoopPart(
        mesh=mesh,
        seed=config.seed,
        total_steps=total_steps,
        call=CallPlan(per_call, config.train.batch_size),
        log_every=config.log.every,
        evaluation=EvaluationPlan(
            evaluate_every if config.data.eval_split else 0,
            config.eval.batch_size,
            _metrics(config),
            config.log.images,
            config.log.worst,
            tile=tuple(config.data.image_size) if keep else None,
            scale=float(config.data.scale) if keep else None,
            patience=config.train.early_stop,
        ),
        checkpoints=CheckpointPlan(
            config.checkpoint.every or evaluate_every,
            config.checkpoint.keep,
            config.checkpoint.best_metric,
            config.checkpoint.retry_minutes,
        ),
        faults=FaultPlan(config.train.non_finite, config.train.non_finite_limit, config.train.stall_minutes),
    )


def _metrics(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the metrics that are asked for, and of the one that finds the worst images."""
    names = tuple(config.eval.metrics)
    return (*names, "per_image") if config.log.worst and "per_image" not in names else names


def _check_steps_per_call(config: ConfigDict) -> None:
    """Raises ConfigError unless logs, evaluations, checkpoints and the end of a run fall between two calls."""
    per_call = config.train.steps_per_call
    keys = ("train.steps", "train.early_stop", "log.every", "eval.every", "checkpoint.every")
    values = {key: config[key.split(".")[0]][key.split(".")[1]] for key in keys}
    messages = [
        f"config.{key} = {steps}: is not a multiple of config.train.steps_per_call = {per_call}; use "
        f"{-(-steps // per_call) * per_call}, or another number of steps per call"
        for key, steps in values.items()
        if steps % per_call
    ]
    if messages:
        raise ConfigError("\n".join(messages))
