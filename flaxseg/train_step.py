"""The pure step: state in, state out. Nothing here is jitted, knows a device, or reads a configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import linen as nn
from flax import struct

from flaxseg.augment import AugmentFn
from flaxseg.data.batch import Batch
from flaxseg.losses import LossFn
from flaxseg.metrics import ConfusionMatrix
from flaxseg.ops import resize_bilinear_ragged


@struct.dataclass
class TrainState:
    """All that changes from step to step, as plain data; a checkpoint holds just this."""

    step: jax.Array
    """int32 scalar: how many steps were taken."""
    params: Any
    batch_stats: Any
    """Running statistics of BatchNorm; an empty dict for networks without."""
    opt_state: optax.OptState
    ema_params: Any
    """Moving average of params; None without. Evaluation uses it with the latest batch_stats."""


@struct.dataclass
class TrainMetrics:
    """What a step measured, as averages over steps that merge exactly: `a.merge(b)`, then `compute()`."""

    loss: clu_metrics.Average
    parts: dict[str, clu_metrics.Average]
    """Each loss by name, before weighting."""
    grad_norm: clu_metrics.Average
    """Global norm of the gradient, before clipping."""

    def merge(self, other: "TrainMetrics") -> "TrainMetrics":
        """Returns the averages over the steps of both."""
        is_metric = lambda x: isinstance(x, clu_metrics.Metric)  # noqa: E731
        return jax.tree.map(lambda a, b: a.merge(b), self, other, is_leaf=is_metric)

    def compute(self) -> dict[str, float]:
        """Returns `loss`, `loss/NAME` for each part, and `grad_norm`; waits for the device."""
        named = {"loss": self.loss, "grad_norm": self.grad_norm}
        named |= {f"loss/{name}": part for name, part in self.parts.items()}
        return {name: float(jax.device_get(metric.compute())) for name, metric in named.items()}


@struct.dataclass
class EvalMetrics:
    """What an evaluation batch measured."""

    confusion: ConfusionMatrix


def create_train_state(
    key: jax.Array, image: jax.Array | jax.ShapeDtypeStruct, *, model: nn.Module, tx: optax.GradientTransformation,
    ema_decay: float | None = None, variables: Mapping[str, Any] | None = None,
) -> TrainState:  # fmt: skip
    """Returns the state before the first step.

    Call it under jit: parameters are then made where they will live, and the average gets buffers of its own
    (donating a state that holds one buffer twice fails).

    Args:
      key: random key of the initial parameters.
      image: a batch of pictures [B, H, W, C], or only its shape; the values do not matter.
      model: the network.
      tx: the optimizer.
      ema_decay: not None: keep a moving average of the parameters.
      variables: `params` and `batch_stats` to start from, such as from load_pretrained(); None: new ones.
    """
    if variables is None:
        variables = initial_variables(key, image, model=model)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        ema_params=None if ema_decay is None else jax.tree.map(jnp.copy, params),
    )


def initial_variables(
    key: jax.Array, image: jax.Array | jax.ShapeDtypeStruct, *, model: nn.Module
) -> Mapping[str, Any]:
    """Returns a network's new `params` and, if it has any, `batch_stats`; arguments as of create_train_state()."""
    blank = jnp.zeros((1, *image.shape[1:]), jnp.float32)
    variables = model.init(key, blank, train=False)
    return {name: variables[name] for name in ("params", "batch_stats") if name in variables}


def train_step(
    state: TrainState, batch: Batch, key: jax.Array, *, model: nn.Module, loss_fn: LossFn,
    tx: optax.GradientTransformation, augment_fn: AugmentFn | None = None, ema_decay: float | None = None,
) -> tuple[TrainState, TrainMetrics]:  # fmt: skip
    """Takes one step of gradient descent.

    Pure and not jitted: `jax.jit(partial(train_step, model=..., ...), donate_argnums=0)`.

    Args:
      state: from create_train_state() or the step before.
      batch: `image` [B, H, W, C] with values 0..255 and `label` integer[B, H, W].
      key: one random key for the whole run; each step folds its number into it.
      model: the network. The loss of logits that it puts into the collection "auxiliary", times its
        `auxiliary_weight`, is added to that of what it returns.
      loss_fn: (logits, label) -> (total, parts), such as losses.weighted_sum({"cross_entropy": 1.0}).
      tx: the optimizer.
      augment_fn: (key, batch) -> batch, such as from augment.make_augment(); None: pictures as they are.
      ema_decay: decay of the average kept since create_train_state(); the first steps use a lower one,
        `(1 + step) / (10 + step)`, so that a short run is not averaged with its start.

    Returns:
      The state after the step, and what it measured.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    if augment_fn is not None:
        batch = augment_fn(augment_key, batch)

    def objective(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            normalize(batch["image"], model),
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": dropout_key},
        )
        total, parts = loss_fn(logits, batch["label"])
        side_losses = [loss_fn(side, batch["label"])[0] for side in jax.tree.leaves(updates.get("auxiliary", {}))]
        if side_losses:
            parts = {**parts, "auxiliary": jnp.stack(side_losses).sum()}
            total = total + model.auxiliary_weight * parts["auxiliary"]
        return total, (parts, updates.get("batch_stats", {}))

    (loss, (parts, batch_stats)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if getattr(model, "frozen", False):
        # Without a gradient, weight decay would still move it.
        params = {**params, "encoder": state.params["encoder"]}
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=_averaged(state.ema_params, params, ema_decay, state.step),
    )
    average: Callable[[jax.Array], clu_metrics.Average] = clu_metrics.Average.from_model_output
    metrics = TrainMetrics(
        loss=average(loss),
        parts={name: average(part) for name, part in parts.items()},
        grad_norm=average(optax.tree.norm(grads)),
    )
    return new_state, metrics


def _averaged(average: Any, params: Any, decay: float | None, step: jax.Array) -> Any:
    if (average is None) != (decay is None):
        raise ValueError("ema_decay must be given to create_train_state() and train_step() alike, or to neither")
    if decay is None:
        return None
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: now * a + (1 - now) * p, average, params)


def predict_logits(state: TrainState, image: jax.Array, *, model: nn.Module) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of pictures [B, H, W, C] with values 0..255.

    Uses the averaged parameters where the state has them.
    """
    params = state.params if state.ema_params is None else state.ema_params
    variables = {"params": params, "batch_stats": state.batch_stats}
    return jnp.asarray(model.apply(variables, normalize(image, model), train=False))


def predict_label(state: TrainState, image: jax.Array, *, model: nn.Module) -> jax.Array:
    """Returns the most likely class of every pixel, uint8[B, H, W], for pictures [B, H, W, C] of 0..255."""
    return predict_logits(state, image, model=model).argmax(-1).astype(jnp.uint8)


def score_logits(logits: jax.Array, batch: Batch) -> EvalMetrics:
    """Scores logits float32[B, H, W, K] against a batch's labels.

    With `size`, int32[B, 2], in the batch, logits are first resized (bilinear) to each label's own size, which is
    how pictures are scored at their own resolution.
    """
    label = batch["label"]
    if "size" in batch:
        logits = resize_bilinear_ragged(logits, batch["size"], label.shape[1:3])
    confusion = ConfusionMatrix.from_model_output(
        prediction=logits.argmax(-1), label=label, num_classes=logits.shape[-1]
    )
    return EvalMetrics(confusion=confusion)


def eval_step(state: TrainState, batch: Batch, *, model: nn.Module) -> EvalMetrics:
    """Scores a batch; pure and not jitted.

    Args:
      state: parameters and statistics; the averaged parameters are used where there are any.
      batch: `image`, `label`, and perhaps `size`; see score_logits().
      model: the network.
    """
    return score_logits(predict_logits(state, batch["image"], model=model), batch)


def normalize(image: jax.Array, model: nn.Module) -> jax.Array:
    """Returns a picture of 0..255 as the network wants it: `(image - model.mean) / model.std`, float32.

    Values for RGB are taken in turn by pictures of other channels, and averaged for one channel, as those of a
    pretrained first convolution are.
    """
    mean, std = (_for_channels(values, image.shape[-1]) for values in (model.mean, model.std))
    return (image.astype(jnp.float32) - mean) / std


def _for_channels(values: float | tuple[float, ...], channels: int) -> jax.Array:
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (3,) or channels == 3:
        return array
    return array.mean() if channels == 1 else array[jnp.arange(channels) % 3]
