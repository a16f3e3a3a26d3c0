"""What a run does about a step that is not finite: it records it, and stops, skips it, or returns to a checkpoint."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from flaxseg.data.types import Batch
from flaxseg.errors import TrainingError
from flaxseg.report.console import print_line
from flaxseg.train.build import Run
from flaxseg.train.non_finite import NonFinite, NonFiniteStep, stopping_error
from flaxseg.train.step_record import StepRecord, arrays_of_state, write_record
from flaxseg.train.training_data import read_batch
from flaxseg.train.workdir import Workdir

ROLLBACKS, SKIPPED = "rollbacks", "skipped_steps"
"""The names of numbers that each checkpoint is saved with."""


class RollBack(Exception):
    """The run is to return to its last checkpoint; `rollbacks` is the number of times then."""

    def __init__(self, rollbacks: int) -> None:
        super().__init__(rollbacks)
        self.rollbacks = rollbacks


def after_rollbacks(run: Run, count: int) -> Run:
    """Returns a run with the data order and random key that it has after returning to a checkpoint `count` times."""
    data = run.data.after_rollbacks(count, seed=run.loop.seed)
    faults = dataclasses.replace(run.loop.faults, rollbacks=count)
    return dataclasses.replace(run, data=data, loop=dataclasses.replace(run.loop, faults=faults))


def announce_skip(run: Run, finding: NonFinite) -> None:
    """Prints that a step was skipped."""
    ids, _ = _read(run, finding.step)
    if jax.process_index() == 0:
        print_line(f"skipped {finding.describe(ids)}")


def recovery(run: Run, config: ConfigDict, directory: Workdir, error: NonFiniteStep) -> TrainingError | RollBack:
    """Writes a file with a step that is not finite, and returns what to raise.

    Call it in every process.

    Args:
      run: the run.
      config: its configuration.
      directory: its working directory.
      error: raised by the step; its `state` is that before the step.
    """
    finding, plan, count = error.finding, run.loop.faults, run.loop.faults.rollbacks
    ids, record = _record(run, config, directory, error)
    if count < plan.max_rollbacks:
        if jax.process_index() == 0:
            print_line(
                f"{finding.describe(ids)}. {record}. Returning to the last checkpoint, {count + 1} of at most "
                f"{plan.limit} times"
            )
        return RollBack(count + 1)
    reason = {
        "stop": "",
        "skip": "This many steps have been skipped before",
        "rollback": "The run has returned to a checkpoint this many times before",
    }[plan.policy]
    return stopping_error(finding, ids, record, reason and f"{reason}: config.train.non_finite_limit = {plan.limit}")


def _record(run: Run, config: ConfigDict, directory: Workdir, error: NonFiniteStep) -> tuple[tuple[str, ...], str]:
    """Writes the file; returns the names of the examples, and a sentence about the file."""
    step = error.finding.step
    path = directory.non_finite / f"step_{step:07d}.npz"
    ids, batch = _read(run, step)
    if batch is None or error.state is None:
        return ids, "It cannot be run again, because its batch cannot be read again"
    state = error.state
    if jax.process_count() > 1:
        state = multihost_utils.process_allgather(state, tiled=True)
    if jax.process_index() == 0:
        record = StepRecord(
            step=step,
            kind=error.finding.kind,
            config=config,
            num_classes=run.model.num_classes,
            class_weights=run.optim.class_weights,
            total_steps=run.loop.total_steps,
            rollbacks=run.loop.faults.rollbacks,
            examples=ids,
            batch=batch,
            state=arrays_of_state(state),
        )
        try:
            write_record(path, record)
        # Whatever prevents it must not hide the error.
        except Exception as problem:
            return ids, f"Its record {path} cannot be written ({problem})"
    return ids, f"Its batch and the state before it are in {path}, which `flaxseg doctor --replay` runs again"


def _read(run: Run, step: int) -> tuple[tuple[str, ...], Batch | None]:
    """Returns the names of the examples of a step, and its whole batch; nothing if it cannot be read again."""
    batch: dict[str, Any] | None
    try:
        batch = {name: np.asarray(value) for name, value in read_batch(run, step - 1).items()}
    except Exception:
        batch = None
    if jax.process_count() > 1:
        if not np.all(multihost_utils.process_allgather(np.array(batch is not None))):
            return (), None
        batch = multihost_utils.process_allgather(batch, tiled=True)
    return ((), None) if batch is None else (_names(run, batch["index"].tolist()), batch)


def _names(run: Run, indices: Sequence[int]) -> tuple[str, ...]:
    try:
        return tuple(run.data.train.source.example_id(index) for index in indices)
    except Exception:
        return tuple(f"number {index}" for index in indices)
