"""The pure step: state in, state out. Nothing here is jitted, knows a device, or reads a configuration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import linen as nn
from flax import struct

from flaxseg.augment import AugmentFn
from flaxseg.data.types import Batch
from flaxseg.losses import LossFn
from flaxseg.metrics import METRICS, ConfusionMatrix
from flaxseg.ops import resize_bilinear_ragged
from flaxseg.optimizers import rate_scale
from flaxseg.optimizers.groups import IsFrozen, merged, split
from flaxseg.train.forward import inference_logits, training_logits
from flaxseg.train.hard_examples import HardExamples
from flaxseg.train.step_metrics import EvalMetrics, TrainMetrics


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


def create_train_state(
    key: jax.Array, image: jax.Array | jax.ShapeDtypeStruct, *, model: nn.Module, tx: optax.GradientTransformation,
    ema_decay: float | None = None, frozen: IsFrozen | None = None, variables: Mapping[str, Any] | None = None,
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
      frozen: parameters that the optimizer is not to see, as of train_step().
      variables: `params` and `batch_stats` to start from, such as from load_pretrained(); None: new ones.
    """
    if variables is None:
        variables = initial_variables(key, image, model=model)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(split(params, frozen)[0]),
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
    frozen: IsFrozen | None = None, accumulate_steps: int = 1, hardest: int = 0,
) -> tuple[TrainState, TrainMetrics]:  # fmt: skip
    """Takes one step of gradient descent.

    Pure and not jitted: `jax.jit(partial(train_step, model=..., ...), donate_argnums=0)`.

    Args:
      state: from create_train_state() or the step before.
      batch: `image` [B, H, W, C] with values 0..255 and `label` integer[B, H, W]; with `hardest`, `index` int32[B].
      key: one random key for the whole run; each step folds its number into it.
      model: the network. The loss of logits that it puts into the collection "auxiliary", times its
        `auxiliary_weight`, is added to that of what it returns.
      loss_fn: (logits, label) -> (total, parts), such as losses.weighted_sum({"cross_entropy": 1.0}).
      tx: the optimizer. Its `update` is also given the loss, as `value`, where it takes more than gradients.
      augment_fn: (key, batch) -> batch, such as from augment.make_augment(); None: pictures as they are.
      ema_decay: decay of the average kept since create_train_state(); the first steps use a lower one,
        `(1 + step) / (10 + step)`, so that a short run is not averaged with its start.
      frozen: which parameters, by paths such as `encoder/stem/conv/kernel`, stay as they are; see
        optimizers.freezing(). BatchNorm and dropout of frozen modules behave as in inference. The same as was given to
        create_train_state().
      accumulate_steps: parts that the batch is computed in, one after the other, to need less memory; the result is
        that of the whole batch, but for BatchNorm, and for what dropout draws. See forward.training_logits().
      hardest: how many of the examples with the largest loss the metrics tell; costs the loss a second time.

    Returns:
      The state after the step, and what it measured.

    Raises:
      ValueError: arguments that do not fit the state or the batch.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    if augment_fn is not None:
        batch = augment_fn(augment_key, batch)
    learning, fixed = split(state.params, frozen)
    expected: Any = jax.tree.structure(jax.eval_shape(tx.init, learning))
    if expected != jax.tree.structure(state.opt_state):
        raise ValueError(
            "the optimizer's state is that of other parameters or of another optimizer: tx and frozen must be given to "
            "create_train_state() and train_step() alike"
        )
    if hardest and "index" not in batch:
        raise ValueError("hardest needs batch['index'], int32[B]: which example of the dataset each one is")

    def objective(learning: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any, jax.Array]]:
        logits, side_logits, batch_stats = training_logits(
            {"params": merged(learning, fixed), "batch_stats": state.batch_stats}, batch["image"], dropout_key,
            model=model, frozen=frozen, accumulate_steps=accumulate_steps,
        )  # fmt: skip
        total, parts = loss_fn(logits, batch["label"])
        if side_logits:
            side_losses = [loss_fn(side, batch["label"])[0] for side in side_logits]
            parts = {**parts, "auxiliary": jnp.stack(side_losses).sum()}
            total = total + model.auxiliary_weight * parts["auxiliary"]
        return total, (parts, batch_stats, logits)

    (loss, (parts, batch_stats, logits)), grads = jax.value_and_grad(objective, has_aux=True)(learning)
    updates, opt_state = optax.with_extra_args_support(tx).update(grads, state.opt_state, learning, value=loss)
    params = merged(optax.apply_updates(learning, updates), fixed)
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
        update_norm=average(optax.tree.norm(updates)),
        rate_scale=average(rate_scale(opt_state)),
        hardest=HardExamples.from_model_output(logits, batch, loss_fn=loss_fn, count=hardest) if hardest else None,
    )
    return new_state, metrics


def _averaged(average: Any, params: Any, decay: float | None, step: jax.Array) -> Any:
    if (average is None) != (decay is None):
        raise ValueError("ema_decay must be given to create_train_state() and train_step() alike, or to neither")
    if decay is None:
        return None
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # So written, it stays what it is where the two are equal, as those of frozen parameters are.
    return jax.tree.map(lambda a, p: a + (1 - now) * (p - a), average, params)


def predict_logits(state: TrainState, image: jax.Array, *, model: nn.Module) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of pictures [B, H, W, C] with values 0..255.

    Uses the averaged parameters where the state has them.
    """
    params = state.params if state.ema_params is None else state.ema_params
    return inference_logits({"params": params, "batch_stats": state.batch_stats}, image, model=model)


def predict_label(state: TrainState, image: jax.Array, *, model: nn.Module) -> jax.Array:
    """Returns the most likely class of every pixel, uint8[B, H, W], for pictures [B, H, W, C] of 0..255."""
    return predict_logits(state, image, model=model).argmax(-1).astype(jnp.uint8)


def score_logits(logits: jax.Array, batch: Batch, *, metrics: Sequence[str] = ()) -> EvalMetrics:
    """Scores logits float32[B, H, W, K] against a batch's labels.

    With `size`, int32[B, 2], in the batch, logits are first resized (bilinear) to each label's own size, which is
    how pictures are scored at their own resolution.

    Args:
      logits: of the batch's pictures.
      batch: `label`, and perhaps `size`.
      metrics: names of metrics.METRICS, measured beside the confusion matrix.
    """
    label, size = batch["label"], batch.get("size")
    if size is not None:
        logits = resize_bilinear_ragged(logits, size, label.shape[1:3])
    output = {
        "logits": logits, "prediction": logits.argmax(-1), "label": label, "num_classes": logits.shape[-1], "size": size
    }  # fmt: skip
    return EvalMetrics(
        confusion=ConfusionMatrix.from_model_output(**output),
        others={name: METRICS[name].from_model_output(**output) for name in metrics},
    )


def eval_step(state: TrainState, batch: Batch, *, model: nn.Module, metrics: Sequence[str] = ()) -> EvalMetrics:
    """Scores a batch; pure and not jitted.

    Args:
      state: parameters and statistics; the averaged parameters are used where there are any.
      batch: `image`, `label`, and perhaps `size`; see score_logits().
      model: the network.
      metrics: names of metrics.METRICS, measured beside the confusion matrix.
    """
    return score_logits(predict_logits(state, batch["image"], model=model), batch, metrics=metrics)
