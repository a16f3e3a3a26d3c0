"""What a run prints when it starts, and the text tables of its summaries."""

import sys
from collections.abc import Sequence
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from flaxseg.config.changes import changed_keys
from flaxseg.config.schema import leaves
from flaxseg.data.class_weights import format_class_weights
from flaxseg.data.memory import size_text
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import number_of
from flaxseg.inference.description import ModelDescription
from flaxseg.optimizers.groups import format_groups
from flaxseg.optimizers.schedules import RISING
from flaxseg.report.console import print_line
from flaxseg.report.event_files import EVALUATION
from flaxseg.report.hparams import HyperParameters
from flaxseg.train.build import Run
from flaxseg.train.parts.model import ModelPart
from flaxseg.train.parts.optimization import warmup_of
from flaxseg.train.step import TrainState

_MAX_NAMED = 8
"""More classes than this are only counted."""


def describe(
    run: Run, shapes: TrainState, *, dataset: str, precision: str, is_new: bool, is_brief: bool
) -> dict[str, str]:
    """Prints what a run trains on, and returns text tables of its parameters and class weights, by name.

    Args:
      run: the run.
      shapes: the shapes of its state.
      dataset: the name of the dataset.
      precision: the data type of the activations.
      is_new: whether the run begins at step 0.
      is_brief: print nothing, because another run that trains together with this one has printed the same.
    """
    data, optim, devices, params = run.data, run.optim, run.loop.mesh.devices, shapes.params
    tables = {
        "parameters": parameter_overview.get_parameter_overview(params, include_stats=False),
        "parameter_groups": format_groups(
            params,
            frozen=run.model.frozen,
            multipliers=optim.recipe.multipliers,
            weight_decay=optim.recipe.weight_decay,
        ),
    }
    lines = [
        describe_data(dataset, data.train, data.evaluation),
        f"{_network(run.model)}: {parameter_overview.count_parameters(params):,} parameters"
        f"{_initial_weights(run.model) if is_new else ''}, {precision}, on {devices.size} x "
        f"{devices.flat[0].device_kind}",
        *checkpoint_sizes(shapes, keep=run.loop.checkpoints.keep),
    ]
    if warning := precision_warning(precision, devices.flat[0].platform):
        lines.append(f"warning: {warning}")
    if run.model.frozen is not None or not optim.recipe.multipliers.is_identity:
        lines.append(f"\n{tables['parameter_groups']}\n")
    if optim.class_weights:
        classes = optim.class_weights, data.train.class_names, data.train.palette
        tables["class_weights"] = format_class_weights(*classes, colors=False)
        lines.append(f"{format_class_weights(*classes, colors=sys.stderr.isatty())}\n")
    if jax.process_index() == 0 and not is_brief:
        print_line("\n".join(lines))
    return tables


def precision_warning(precision: str, platform: str) -> str:
    """Returns a warning where a precision is slower on a platform than float32; "" elsewhere."""
    if (precision, platform) != ("bfloat16", "cpu"):
        return ""
    return (
        "config.train.precision = 'bfloat16' is meant for GPUs and TPUs, and takes longer than 'float32' on most CPUs; "
        "use 'float32' here"
    )


def describe_data(name: str, train: SegmentationDataset, evaluation: SegmentationDataset | None) -> str:
    """Returns the line about the data of a run: its images, where those to evaluate on come from, and the classes.

    Args:
      name: the name of the dataset.
      train: the training set.
      evaluation: the evaluation set; None if there is no evaluation.
    """
    evaluated = "no evaluation"
    if evaluation is not None:
        origin = f", {evaluation.selection.text}" if evaluation.selection else ""
        evaluated = f"{len(evaluation):,} to evaluate on{origin}"
    return f"{name}: {len(train):,} images to train on, {evaluated}, {_classes(train.class_names)}"


def checkpoint_sizes(shapes: Any, *, keep: int) -> list[str]:
    """Returns the line about the room that the checkpoints of a run take; none if none is saved.

    Args:
      shapes: the shapes of its state.
      keep: the number of latest checkpoints that are kept, in addition to the best.
    """
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return [f"checkpoints: about {size_text(size)} each, at most {keep + 1} of them"] if keep else []


def _classes(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _MAX_NAMED else ""
    return f"{len(names)} classes ({', '.join(names[:_MAX_NAMED])}{more})"


def _network(model: ModelPart) -> str:
    encoder = getattr(model.module, "encoder_name", "")
    return f"{model.name} with {encoder}" if encoder else model.name


def _initial_weights(model: ModelPart) -> str:
    return f", weights from {model.pretrained.source}" if model.pretrained else ", random weights"


def describe_steps(run: Run, step: int, *, optimizer: ConfigDict, stops_early: bool) -> str:
    """Returns which steps are about to run, or why none are.

    Args:
      run: the run.
      step: the step of its state.
      optimizer: the section `optimizer` of its configuration.
      stops_early: whether early stopping has ended the run.
    """
    plan = run.loop
    again = "evaluated once more" if plan.evaluation.every else "nothing is left to do"
    if step >= plan.total_steps:
        return f"complete at step {step:,}; {again}. To train on, raise train.steps or train.epochs"
    if stops_early:
        return f"stopped early at step {step:,} of {plan.total_steps:,}; {again}. To train on, raise train.early_stop"
    kind, every = (
        ("an evaluation", plan.evaluation.every) if plan.evaluation.every else ("a checkpoint", plan.checkpoints.every)
    )
    when = f"every {every:,} steps" if every < plan.total_steps else "at the end"
    resumed = f"resumed from the checkpoint of step {step:,}: " if step else ""
    warmup = "" if step else describe_warmup(optimizer, plan.total_steps)
    return f"{resumed}steps {step:,} to {plan.total_steps:,}, batches of {plan.call.batch_size}, {kind} {when}{warmup}"


def describe_warmup(optimizer: ConfigDict, total_steps: int) -> str:
    """Returns what is said about the warm-up of a run, and why it is not that of the configuration; "" without any.

    Args:
      optimizer: the section `optimizer` of the configuration.
      total_steps: the number of steps of the run.
    """
    configured, steps = optimizer.warmup_steps, warmup_of(optimizer, total_steps)
    if not configured:
        return ""
    length = f"a warm-up of {number_of(steps, 'step')}" if steps else "no warm-up"
    if steps == configured:
        return f", {length}"
    reason = (
        f"has no effect, because optimizer.schedule = {optimizer.schedule} begins with a rise"
        if optimizer.schedule in RISING
        else "is more than half of the run"
    )
    return f", {length} (optimizer.warmup_steps = {configured} {reason})"


_FIRST = ("model.name", "optimizer.name", "optimizer.learning_rate", "train.batch_size", "seed")
"""Hyper-parameters that are shown whether or not a run changes them."""

_OF_LEARNING = ("class_weights", "loss", "model.", "optimizer.", "train.")
"""What the names of keys begin with that are shown where a run changes them."""

_OF_REPORTS = ("train.callbacks", "train.callback_options.")
"""What the names of those begin with that are not."""


def hyper_parameters(config: ConfigDict, description: ModelDescription) -> HyperParameters:
    """Returns the configuration of a run as hyper-parameters, with every option of its network.

    Args:
      config: the configuration.
      description: describes the network.
    """
    options = {f"model.options.{name}": value for name, value in description.options.items()}
    changed = [
        name for name in changed_keys(config) if name.startswith(_OF_LEARNING) and not name.startswith(_OF_REPORTS)
    ]
    tags = (config.checkpoint.best_metric, "miou", "mean_dice", "pixel_accuracy")
    metrics = [*dict.fromkeys(f"{EVALUATION}{tag}" for tag in tags), "train/loss"]
    return HyperParameters(options | dict(leaves(config)), {*_FIRST, *changed}, metrics)
