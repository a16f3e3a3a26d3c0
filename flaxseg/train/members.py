"""Several runs that differ in their seeds, learning rates and loss weights, trained together: `train_together`."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from flaxseg.config.members import base_config, member_configs, named_together
from flaxseg.config.schema import leaves
from flaxseg.config.validate import config_key, validate
from flaxseg.errors import CheckpointError, ConfigError, TrainingError
from flaxseg.report.console import print_line
from flaxseg.report.metric_writers import check_writer
from flaxseg.train.build import Run, build
from flaxseg.train.callbacks import Callback, report_error, reporting_errors
from flaxseg.train.configured_callbacks import configured_callbacks
from flaxseg.train.fit import Member
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.lockstep import fit_members
from flaxseg.train.loop import OpenRun, open_run
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.parts.optimization import Hyperparameters
from flaxseg.train.parts.public_model import with_public_network
from flaxseg.train.progress import ProgressBar
from flaxseg.train.recovery import recovery
from flaxseg.train.result import Result
from flaxseg.train.state import load_weights
from flaxseg.train.supervision import Supervision
from flaxseg.train.together import step_together
from flaxseg.train.workdir import Workdir


class FailedRuns(TrainingError):
    """Some of several runs could not continue.

    Attributes:
      results: the results of the others, by name.
      errors: the error of each that failed, by name.
    """

    def __init__(self, results: Mapping[str, Result], errors: Mapping[str, Exception]) -> None:
        super().__init__("\n".join(f"{name}: {error}" for name, error in errors.items()))
        self.results = dict(results)
        self.errors = dict(errors)


def train_together(
    config: ConfigDict, workdir: str | Path, *, callbacks: Callable[[str], Sequence[Callback]] = lambda name: ()
) -> dict[str, Result]:
    """Trains each run that a configuration names as `train_and_evaluate` would train it alone, all of them together.

    The runs are the combinations of `config.train.seeds`, `train.learning_rates` and `train.loss_weights`. Each has its
    own working directory, such as `seed-0_learning_rate-0.003`, with its own checkpoints, logs and images, which can be
    used and resumed like that of any other run. The runs share the data's caches and the compiled program, whose
    arguments are the learning rate and the weights of the losses where they differ. Each resumes from its own latest
    checkpoint; those that are behind catch up first. A signal stops all of them after the same step, each with a
    checkpoint. A run that cannot continue, because a step is not finite, ends alone.

    Args:
      config: see `train_and_evaluate`.
      workdir: receives a directory for each run.
      callbacks: returns the callbacks of the run of a name, which is that of its directory; they follow those of
        `config.train.callbacks`, of which each run has its own.

    Returns:
      The result of each run, by name.

    Raises:
      ConfigError: several runs are not named, or they do not fit the other keys or several processes; or see
        `train_and_evaluate`.
      CheckpointError: `workdir` itself contains a run; or see `train_and_evaluate`.
      FailedRuns: some of the runs could not continue; raised after the others have ended.
      DataError, WeightsError: see `train_and_evaluate`.
    """
    config, _ = with_public_network(config)
    validate(config)
    _check_processes(config)
    configs = member_configs(config)
    directories = {name: Workdir(Path(workdir) / name) for name in configs}
    reacting = {
        name: [*configured_callbacks(each, directories[name].path), *callbacks(name)] for name, each in configs.items()
    }
    errors: dict[str, Exception] = {}
    with contextlib.ExitStack() as stack:
        supervision = stack.enter_context(Supervision(saves=config.checkpoint.keep > 0))
        locks = {}
        for name, directory in directories.items():
            locks[name] = stack.enter_context(WorkdirLock(directory))
            supervision.before_exit(locks[name].release)
        for each in reacting.values():
            stack.enter_context(reporting_errors(each))
        opened = _open_runs(stack, config, configs, directories)
        compilation = next(iter(opened.values())).compilation
        members = {
            name: Member(
                each.run,
                each.state,
                each.checkpoints,
                [locks[name], *each.writers, *reacting[name]],
                compiled=compilation.compiled,
                supervision=supervision,
            )
            for name, each in opened.items()
        }

        def on_failure(member: Member, error: NonFiniteStep) -> None:
            name = next(name for name, each in members.items() if each is member)
            errors[name] = recovery(member.run, configs[name], directories[name], error)
            report_error([*opened[name].writers, *reacting[name]], errors[name])
            reacting[name].clear()  # It has ended, whatever happens to the others.
            print_line(f"{name} has ended: {errors[name]}")

        together = list(members.values())
        take_step = step_together(together, compilation)
        fit_members(together, take_step, supervision=supervision, on_failure=on_failure)
        results = {name: each.result() for name, each in members.items() if not each.has_failed}
    if errors:
        raise FailedRuns(results, errors)
    return results


def _check_processes(config: ConfigDict) -> None:
    named = named_together(dict(leaves(config)))
    if not named:
        raise ConfigError(
            "config.train.seeds = (): there is nothing to train together; name seeds, as in (0, 1, 2), or learning "
            "rates or loss weights"
        )
    if jax.process_count() > 1:
        raise ConfigError(
            f"config.{named}: these runs are trained together in one process, and there are {jax.process_count()}; use "
            "(), and start a run of several processes for each"
        )


def _open_runs(
    stack: contextlib.ExitStack,
    config: ConfigDict,
    configs: Mapping[str, ConfigDict],
    directories: Mapping[str, Workdir],
) -> dict[str, OpenRun]:
    """Returns all runs with their open working directories; writes nothing if one of them is refused."""
    first = next(iter(directories.values()))
    if Workdir(first.path.parent).has_run():
        raise CheckpointError(
            f"{first.path.parent}: contains a single run; give another --workdir for several runs that are trained "
            "together"
        )
    for name, directory in directories.items():
        directory.check_config(configs[name])
        directory.check_keep(config.checkpoint.keep)
    run = build(base_config(config), class_weights=first.class_weights)
    for directory in directories.values():
        directory.check_data(run.data.splits)
    runs = _runs_of(run, config, configs)
    with config_key("log"):
        check_writer(config.log.writer)
    load = functools.cache(functools.partial(load_weights, run))
    if not all(directory.has_checkpoint() for directory in directories.values()):
        load()  # Here, so that an error is raised before anything is written.
    opened = {}
    for row, (name, directory) in enumerate(directories.items()):
        progress = ProgressBar(run.loop.checkpoints.best_metric, name=name, row=row)
        opened[name] = open_run(stack, directory, configs[name], runs[name], load, progress)
    return opened


def _runs_of(run: Run, config: ConfigDict, configs: Mapping[str, ConfigDict]) -> dict[str, Run]:
    """Returns the run of each configuration, given one that has all of their losses."""
    losses = {name for each in configs.values() for name in each.loss}
    runs = {}
    for name, each in configs.items():
        rate = float(each.optimizer.learning_rate) if config.train.learning_rates else None
        weights = {loss: float(each.loss.get(loss, 0.0)) for loss in sorted(losses)}
        runs[name] = run.as_member(each.seed, Hyperparameters(rate, weights if config.train.loss_weights else None))
    if config.train.learning_rates:
        _check_traceable(run, config)
    return runs


def _check_traceable(run: Run, config: ConfigDict) -> None:
    """Raises ConfigError if the learning rate cannot be an argument of the program."""

    def rate(peak: Any) -> Any:
        return run.optim.of(Hyperparameters(learning_rate=peak)).schedule(0)

    try:
        jax.eval_shape(rate, 1.0)
    except (jax.errors.ConcretizationTypeError, ConfigError) as error:
        names = f"optimizer.schedule = {config.optimizer.schedule!r} and optimizer.name = {config.optimizer.name!r}"
        raise ConfigError(
            f"config.train.learning_rates = {tuple(config.train.learning_rates)}: {names} must take a learning rate "
            "that JAX traces, without an `if` or `float()` of it; use jax.numpy there, or train each rate alone"
        ) from error
