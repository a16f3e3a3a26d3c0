"""Runs a recorded training step that was not finite again, and finds where in it the first such values are."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxseg.config.callbacks import drop_callbacks
from flaxseg.config.validate import validate
from flaxseg.data.types import Batch
from flaxseg.train.non_finite import NonFinite, listed
from flaxseg.train.partitioner import partition_safely
from flaxseg.train.parts.loop import step_key
from flaxseg.train.parts.model import ModelPart, build_model_part
from flaxseg.train.parts.optimization import OptimizationPart, build_optimization, schedule_maker
from flaxseg.train.sharding import make_mesh, place_batch, replicated
from flaxseg.train.step import TrainState, create_train_state, loss_and_gradient, step_keys
from flaxseg.train.step_metrics import TrainMetrics
from flaxseg.train.step_record import StepRecord, read_record


@dataclasses.dataclass(frozen=True)
class Replay:
    """What running a recorded step again found. Each field lists only what is not finite.

    Attributes:
      path: the file.
      step: the number of the step.
      recorded: what was the first to be non-finite in the run, one of `KINDS`.
      found: the finding now; None if everything is finite.
      examples: the names of the examples of the batch.
      images: the names of those whose image is not finite as stored.
      augmented: the names of those whose image is not finite after augmentation.
      logits: the names of those whose logits are not finite; BatchNorm spreads such values over a whole batch.
      state: the paths of arrays of the state before the step. A plateau schedule begins with an infinite best loss.
      gradient: the paths of parameters with such a gradient.
      update: the paths of parameters with such an update, and of such batch statistics.
    """

    path: Path
    step: int
    recorded: str
    found: NonFinite | None
    examples: tuple[str, ...]
    images: tuple[str, ...]
    augmented: tuple[str, ...]
    logits: tuple[str, ...]
    state: tuple[str, ...]
    gradient: tuple[str, ...]
    update: tuple[str, ...]

    @property
    def is_reproduced(self) -> bool:
        """Whether the same was the first to be non-finite as in the run."""
        return self.found is not None and self.found.kind == self.recorded

    def __str__(self) -> str:
        """Returns the findings as lines of text."""
        lines = [f"{self.path}: step {self.step}, where the {self.recorded} was the first that is not finite"]
        if self.found is None:
            lines.append("here, everything is finite; the devices or versions may differ from those of the run")
        else:
            same = "the same" if self.is_reproduced else f"not the same, but the {self.found.kind}"
            lines += [f"here, {same}: {self.found.describe(self.examples)}"]
        whats = {
            "images": "images, as stored",
            "augmented": "images, after augmentation",
            "logits": "logits of",
            "state": "state before the step",
            "gradient": "gradient of",
            "update": "update of",
        }
        for name, what in whats.items():
            found = getattr(self, name)
            lines.append(f"  {what:27} {f'{len(found)} not finite: {listed(found)}' if found else 'finite'}")
        return "\n".join(lines)


def replay(path: str | Path) -> Replay:
    """Runs a recorded step again, on the devices of this machine and without the dataset.

    Networks, losses and optimizers of the user's own are imported by the names in the record, as from a configuration;
    give only files that you trust.

    Args:
      path: a file in the directory `non_finite/` of a run.

    Raises:
      DataError: the file cannot be read as a record, or does not fit the installed version.
      ConfigError: its configuration is invalid, for example because code of the user's own cannot be imported.
    """
    record = read_record(path)
    config, channels = record.config, record.batch["image"].shape[-1]
    drop_callbacks(config)
    validate(config)
    model = build_model_part(config, record.num_classes, channels)
    make_schedule = schedule_maker(config, record.total_steps)
    optim = build_optimization(config, model, make_schedule=make_schedule, class_weights=record.class_weights)
    metrics, flags = _run(record, model, optim)
    names = lambda is_bad: tuple(np.array(record.examples)[np.asarray(is_bad)].tolist())  # noqa: E731
    code = int(metrics.check.code)
    return Replay(
        path=Path(path),
        step=record.step,
        recorded=record.kind,
        found=NonFinite.in_metrics(record.step, metrics) if code else None,
        examples=record.examples,
        images=names(flags["images"]),
        augmented=names(~metrics.check.finite_images),
        logits=names(flags["logits"]),
        state=tuple(name for name, value in record.state.items() if not _is_finite(value)),
        gradient=_paths(flags["gradient"]),
        update=_paths(flags["update"]),
    )


def _run(record: StepRecord, model: ModelPart, optim: OptimizationPart) -> tuple[TrainMetrics, dict[str, Any]]:
    """Returns the metrics of the step and what is not finite in it, on the host."""
    create = functools.partial(
        create_train_state, image=model.image, model=model.module, tx=optim.tx, options=optim.step_options
    )
    state = record.state_like(jax.eval_shape(create, jax.random.key(0)))
    micro_batch = len(record.batch["image"]) // optim.step_options.accumulate_steps
    mesh = make_mesh(data=math.gcd(micro_batch, jax.device_count()))
    step = functools.partial(_examine, network=partition_safely(model.model, mesh), optim=optim)
    key = step_key(record.config.seed, record.rollbacks)
    placed = jax.device_put(state, replicated(mesh))
    found: tuple[TrainMetrics, dict[str, Any]] = jax.device_get(
        jax.jit(step, out_shardings=replicated(mesh))(placed, place_batch(record.batch, mesh), key)
    )
    return found


def _examine(
    state: TrainState, batch: Batch, key: jax.Array, *, network: Any, optim: OptimizationPart
) -> tuple[TrainMetrics, dict[str, Any]]:
    """Returns the metrics of a step, and whether its images, logits, gradient and update are not finite."""
    _, metrics = optim.step_of(network)(state, batch, key)
    augment_key, dropout_key = step_keys(key, state.step)
    augmented = optim.augment_fn(augment_key, batch) if optim.augment_fn else batch
    (loss, (_, batch_stats, logits)), grads = loss_and_gradient(
        state,
        augmented,
        dropout_key,
        model=network,
        loss_fn=optim.loss_fn,
        options=optim.step_options,
    )
    tx = optax.with_extra_args_support(optim.tx)
    updates, _ = tx.update(grads, state.opt_state, state.params, value=loss)
    bad: Callable[[jax.Array], jax.Array] = lambda x: ~jnp.isfinite(x).all()  # noqa: E731
    return metrics, {
        "images": jax.vmap(bad)(batch["image"]),
        "logits": jax.vmap(bad)(logits),
        "gradient": jax.tree.map(bad, {"params": grads}),
        "update": jax.tree.map(bad, {"params": updates, "batch_stats": batch_stats}),
    }


def _paths(flags: Any) -> tuple[str, ...]:
    paths = jax.tree_util.tree_flatten_with_path(flags)[0]
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, flag in paths if flag)


def _is_finite(value: np.ndarray) -> bool:
    return not np.issubdtype(value.dtype, np.inexact) or bool(np.isfinite(value).all())
