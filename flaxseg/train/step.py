"""The pure training step: state in, state out. Nothing here is jitted, knows a device, or reads a configuration."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.augment import AugmentFn
from flaxseg.data.types import Batch
from flaxseg.errors import ArgumentError
from flaxseg.inference.forward import inference_logits
from flaxseg.inference.scoring import EvalMetrics, score_logits
from flaxseg.losses import LossFn
from flaxseg.models.protocol import SegmentationModel, Variables
from flaxseg.optimizers import plateau_multiplier
from flaxseg.shapes import check_batch, check_image
from flaxseg.train.loss_value import loss_value
from flaxseg.train.micro_batches import training_logits
from flaxseg.train.step_check import check_step, select
from flaxseg.train.step_metrics import TrainMetrics

MetricsFn = Callable[[jax.Array, Batch], Mapping[str, clu_metrics.Metric]]
"""(logits float32[B, H, W, K], batch) -> CLU metrics by name."""


@struct.dataclass
class TrainState:
    """Everything that changes from step to step, as plain data; a checkpoint contains exactly this."""

    step: jax.Array
    """int32 scalar: the number of steps taken."""
    params: Any
    batch_stats: Any
    """Running statistics of BatchNorm; an empty dict for networks without BatchNorm."""
    opt_state: optax.OptState
    ema_params: Any
    """Exponential moving average of `params`, or None. Evaluation uses it with the latest `batch_stats`."""


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Options of a training step; `create_train_state` must get the same ones.

    Attributes:
      ema_decay: decay of the moving average of the parameters, from 0 to below 1; None keeps no average. Early steps
        use `(1 + step) / (10 + step)` where that is lower, so that the average forgets the initial parameters.
      accumulate_steps: the number of micro-batches that a batch is split into to save memory; see `training_logits`.
      metrics_fn: computes further metrics, for `TrainMetrics.extra`; None for none.
      batch_statistics: what BatchNorm normalizes micro-batches by, "micro_batches" or "whole_batch"; see
        `training_logits`.
    """

    ema_decay: float | None = None
    accumulate_steps: int = 1
    metrics_fn: MetricsFn | None = None
    batch_statistics: str = "micro_batches"


def create_train_state(
    key: jax.Array,
    image: jax.Array | jax.ShapeDtypeStruct,
    *,
    model: SegmentationModel,
    tx: optax.GradientTransformation,
    options: StepOptions = StepOptions(),
    variables: Variables | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Call it under jit: the parameters are then created in their final placement, and the moving average gets buffers
    of its own (a state that contains one buffer twice cannot be donated).

    Args:
      key: random key of the initial parameters.
      image: a batch of images [B, H, W, C], or only its shape; the values do not matter.
      model: the network.
      tx: the optimizer.
      options: the options of the training steps.
      variables: initial `params` and `batch_stats`, for example from `load_pretrained`; None for random ones.
    """
    if variables is None:
        variables = initial_variables(key, image, model=model)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        ema_params=None if options.ema_decay is None else jax.tree.map(jnp.copy, params),
    )


def initial_variables(
    key: jax.Array, image: jax.Array | jax.ShapeDtypeStruct, *, model: SegmentationModel
) -> Variables:
    """Returns freshly initialized `params` and, if the network has any, `batch_stats`.

    Args:
      key: random key.
      image: a batch of images [B, H, W, C], or only its shape.
      model: the network.
    """
    check_image(image)
    blank = jnp.zeros((1, *image.shape[1:]), jnp.float32)
    variables = model.init(key, blank, train=False)
    return {name: variables[name] for name in ("params", "batch_stats") if name in variables}


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    model: SegmentationModel,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    augment_fn: AugmentFn | None = None,
    options: StepOptions = StepOptions(),
) -> tuple[TrainState, TrainMetrics]:
    """Takes one step of gradient descent, unless an image, the loss, the gradient or the update is not finite.

    Pure and not jitted: use `jax.jit(partial(train_step, model=..., ...), donate_argnums=0)`.

    Args:
      state: from `create_train_state` or the previous step.
      batch: `image` [B, H, W, C] with values 0..255 (not 0..1, which cannot be noticed here), or a frozen encoder's
        features of such images (`EncodedImages`), and `label` integer[B, H, W].
      key: one random key for the whole run, into which each step folds its number.
      model: the network. To freeze a part of it, wrap it with `freeze`, and `tx` with `with_frozen_parameters`.
      loss_fn: (logits, label, *auxiliary_logits) -> (total, parts), such as `weighted_sum({"cross_entropy": 1.0})`, or
        `weighted_sum({my_loss: 1.0})` for a function of your own that returns a scalar.
      tx: the optimizer. Its `update` also gets the loss, as `value`, if it accepts extra arguments.
      augment_fn: (key, batch) -> batch, for example from `make_augment`; None leaves the batch unchanged.
      options: the moving average, micro-batches and further metrics.

    Returns:
      The state after the step, and the metrics of the step. If `metrics.check.code` is not 0, something in the step is
      not finite (see `StepCheck`), and the state is the one before the step.

    Raises:
      ArgumentError: the options do not fit the state or the batch, the batch lacks a key, its labels are not integers
        of the size of the logits, whatever the loss, its images have another number of channels than those that the
        network was made for, or `loss_fn` does not return (total, parts).
    """
    check_batch(batch)
    augment_key, dropout_key = step_keys(key, state.step)
    if augment_fn is not None:
        batch = augment_fn(augment_key, batch)

    gradient = loss_and_gradient(state, batch, dropout_key, model=model, loss_fn=loss_fn, options=options)
    (loss, (parts, batch_stats, logits)), grads = gradient
    grads = jax.lax.optimization_barrier(grads)  # Computed once, because several passes below read them.
    updates, opt_state = _update(state, grads, loss, tx=tx)
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=_moving_average(state.ema_params, params, options.ema_decay, state.step),
    )
    grad_norm, update_norm = optax.tree.norm(grads), optax.tree.norm(updates)
    check = check_step(batch["image"], loss, grad_norm, update_norm, batch_stats)
    average: Callable[[jax.Array], clu_metrics.Average] = clu_metrics.Average.from_model_output
    metrics = TrainMetrics(
        loss=average(loss),
        parts={name: average(part) for name, part in parts.items()},
        grad_norm=average(grad_norm),
        update_norm=average(update_norm),
        plateau_multiplier=average(plateau_multiplier(opt_state)),
        check=check,
        extra=options.metrics_fn(logits, batch) if options.metrics_fn else {},
    )
    return select(check.code == 0, new_state, state), metrics


def loss_and_gradient(
    state: TrainState,
    batch: Batch,
    dropout_key: jax.Array,
    *,
    model: SegmentationModel,
    loss_fn: LossFn,
    options: StepOptions = StepOptions(),
) -> tuple[tuple[jax.Array, tuple[dict[str, jax.Array], Any, jax.Array]], Any]:
    """Returns the loss of an augmented batch and its gradient: `((loss, (parts, batch_stats, logits)), gradient)`.

    Args:
      state: the parameters and batch statistics.
      batch: `image` [B, H, W, C] with values 0..255 and `label` integer[B, H, W].
      dropout_key: random key of the dropout layers.
      model: the network.
      loss_fn: (logits, label, *auxiliary_logits) -> (total, parts).
      options: its micro-batches and their batch statistics; see `training_logits`.
    """

    def objective(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any, jax.Array]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, auxiliary_logits, batch_stats = training_logits(
            variables,
            batch["image"],
            dropout_key,
            model=model,
            accumulate_steps=options.accumulate_steps,
            batch_statistics=options.batch_statistics,
        )
        loss, parts = loss_value(loss_fn, logits, batch["label"], auxiliary_logits)
        return loss, (parts, batch_stats, logits)

    return jax.value_and_grad(objective, has_aux=True)(state.params)


def _update(
    state: TrainState, grads: Any, loss: jax.Array, *, tx: optax.GradientTransformation
) -> tuple[Any, optax.OptState]:
    """Returns the update of the parameters and the new state of the optimizer, each computed by itself.

    Nothing may change before the whole update is known to be finite. If both were computed together, the new state of
    the optimizer would have to be kept beside the old one until then. Computed by itself, it takes the old one's place.
    """
    update = jax.jit(optax.with_extra_args_support(tx).update)  # traced once
    updates, _ = update(grads, state.opt_state, state.params, value=loss)
    _, opt_state = update(jax.lax.optimization_barrier(grads), state.opt_state, state.params, value=loss)
    return updates, opt_state


def step_keys(key: jax.Array, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Returns the random keys of a step's augmentation and dropout.

    Args:
      key: the random key of the whole run.
      step: the number of steps taken before.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, step))
    return augment_key, dropout_key


def _moving_average(average: Any, params: Any, decay: float | None, step: jax.Array) -> Any:
    if (average is None) != (decay is None):
        raise ArgumentError(
            "options.ema_decay", decay, "give create_train_state and train_step the same options; the state has "
            + ("no moving average" if average is None else "a moving average")
        )  # fmt: skip
    if decay is None:
        return None
    current = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # This form is exact where both are equal, as for frozen parameters.
    return jax.tree.map(lambda a, p: a + (1 - current) * (p - a), average, params)


def predict_logits(state: TrainState, image: jax.Array, *, model: SegmentationModel) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of images [B, H, W, C] with values 0..255.

    Uses the moving average of the parameters if the state has one.
    """
    params = state.params if state.ema_params is None else state.ema_params
    return inference_logits({"params": params, "batch_stats": state.batch_stats}, image, model=model)


def predict_label(state: TrainState, image: jax.Array, *, model: SegmentationModel) -> jax.Array:
    """Returns the most likely class of each pixel, uint8[B, H, W], for images [B, H, W, C] with values 0..255."""
    return predict_logits(state, image, model=model).argmax(-1).astype(jnp.uint8)


def eval_step(state: TrainState, batch: Batch, *, model: SegmentationModel, metrics: Sequence[str] = ()) -> EvalMetrics:
    """Scores a batch; pure and not jitted.

    Args:
      state: its moving average of the parameters is used if it has one.
      batch: `image`, `label`, and optionally `size`; see `score_logits`.
      model: the network.
      metrics: names of `metrics.METRICS` to compute in addition to the confusion matrix.

    Raises:
      ArgumentError: the batch lacks a key, its labels do not fit its images, its images have another number of channels
        than those that the network was made for, or a metric is unknown.
    """
    check_batch(batch)
    return score_logits(predict_logits(state, batch["image"], model=model), batch, metrics=metrics)
