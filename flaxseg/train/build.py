"""Builds a run from a configuration: `build(config)`, and a builder for each part, which can be called alone."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import optax
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key, validate
from flaxseg.data.class_weights import resolve_class_weights
from flaxseg.errors import check_choice
from flaxseg.metrics.scores import CLASS_IOU
from flaxseg.train.feature_cache import check_frozen_encoder
from flaxseg.train.parts.augmentation import build_augmentation
from flaxseg.train.parts.data import DataPart, build_data
from flaxseg.train.parts.loop import LoopPart, build_loop, build_mesh
from flaxseg.train.parts.model import ModelPart, build_model_part
from flaxseg.train.parts.optimization import (
    CONSTANTS,
    Hyperparameters,
    OptimizationPart,
    build_optimization,
    schedule_maker,
)
from flaxseg.train.parts.public_model import with_public_network
from flaxseg.train.step import TrainState, create_train_state
from flaxseg.train.workdir import Workdir

__all__ = [
    "DataPart",
    "LoopPart",
    "ModelPart",
    "OptimizationPart",
    "Run",
    "build",
    "build_augmentation",
    "build_data",
    "build_loop",
    "build_mesh",
    "build_model_part",
    "build_optimization",
    "schedule_maker",
]


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a configuration describes, ready to train: four parts that do not change during the run."""

    data: DataPart
    model: ModelPart
    optim: OptimizationPart
    loop: LoopPart

    @functools.cached_property
    def create_state(self) -> Callable[..., TrainState]:
        """The function (key, variables=None) -> initial state, always the same one, so that JAX traces it once."""
        return functools.partial(
            create_train_state,
            image=self.model.image,
            model=self.model.module,
            tx=self.optim.tx,
            options=self.optim.step_options,
        )

    def as_member(self, seed: int, hyperparameters: Hyperparameters = CONSTANTS) -> "Run":
        """Returns a run that can be trained together with this one; both share their caches of the data.

        Args:
          seed: its random seed.
          hyperparameters: its hyperparameters, which are arguments of the program; where None, those of this run.

        Raises:
          ConfigError: a loss does not fit the network, or the class weights.
        """
        optim = self.optim.with_arguments(hyperparameters)
        loop = dataclasses.replace(self.loop, seed=seed)
        member = dataclasses.replace(self, data=self.data.of_seed(seed), optim=optim, loop=loop)
        # The initial state does not depend on the hyperparameters, so that JAX traces and compiles it once.
        member.__dict__["create_state"] = self.create_state
        return member


def build(
    config: ConfigDict,
    *,
    workdir: Workdir | None = None,
    class_weights: Path | None = None,
    schedule: optax.Schedule | None = None,
) -> Run:
    """Returns the parts of a run. Validates the configuration and opens the datasets; computes nothing on a device.

    Args:
      config: from a file of `configs/`, or `default_config()` with changes.
      workdir: the run's working directory, which must not contain a run of another configuration or of other data.
        Class weights stored in it are used instead of counting pixels. Nothing is written to it.
      class_weights: without `workdir`, a file of class weights to use in the same way if it exists.
      schedule: the learning rate at each step; None for the schedule of the configuration.

    Raises:
      ConfigError: the configuration is invalid, or does not fit the data or the devices.
      DataError: a dataset cannot be used.
      CheckpointError: the working directory contains a run of another configuration, or of other data.
    """
    config, public = with_public_network(config)
    validate(config)
    if workdir:
        workdir.check_config(config)
    mesh = build_mesh(config)
    data = build_data(config, mesh)
    with config_key("", setting="class_weights"):
        weights = resolve_class_weights(
            config.class_weights,
            data.train,
            stored=workdir.class_weights if workdir else class_weights,
            num_threads=config.data.num_threads,
        )
    if workdir:
        workdir.check_data(data.splits)
    _check_best_metric(config.checkpoint.best_metric, data.train.class_names)
    loop = build_loop(config, mesh, num_examples=len(data.train.source))
    make_schedule = (lambda _: schedule) if schedule else schedule_maker(config, loop.total_steps)
    model = build_model_part(config, data.train.num_classes, data.channels, public=public)
    if data.views is not None:
        check_frozen_encoder(model)
    optim = build_optimization(config, model, make_schedule=make_schedule, class_weights=weights)
    return Run(data, model, optim, loop)


def _check_best_metric(best_metric: str, class_names: Sequence[str]) -> None:
    """Raises ConfigError if the best checkpoint is selected by the IoU of a class that the dataset lacks."""
    scores = [f"{CLASS_IOU}{name}" for name in class_names]
    if best_metric.startswith(CLASS_IOU):
        with config_key("checkpoint"):
            check_choice("best_metric", best_metric, scores)
