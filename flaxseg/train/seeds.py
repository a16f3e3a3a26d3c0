"""Several random seeds of one configuration, trained together: `train_seeds`."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key, validate
from flaxseg.errors import CheckpointError, ConfigError, TrainingError
from flaxseg.report.metric_writers import check_writer
from flaxseg.train.build import build
from flaxseg.train.callbacks import Callback, reporting_errors
from flaxseg.train.configured_callbacks import configured_callbacks
from flaxseg.train.fit import Member, fit_members
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.loop import OpenRun, open_run
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.parts.public_model import with_public_network
from flaxseg.train.progress import ProgressBar
from flaxseg.train.recovery import recovery
from flaxseg.train.result import Result
from flaxseg.train.state import load_weights
from flaxseg.train.supervision import Supervision
from flaxseg.train.together import step_together
from flaxseg.train.workdir import Workdir


def train_seeds(
    config: ConfigDict, workdir: str | Path, *, callbacks: Callable[[int], Sequence[Callback]] = lambda seed: ()
) -> dict[int, Result]:
    """Trains each of `config.train.seeds` as `train_and_evaluate` would train it alone, all of them together.

    Each run has its own working directory, `seed-N`, with its own checkpoints, logs and images, which can be used and
    resumed like that of any other run. The runs share the data's caches and the compiled program. Each resumes from its
    own latest checkpoint; those that are behind catch up first. A signal stops all of them after the same step, each
    with a checkpoint.

    Args:
      config: see `train_and_evaluate`; `config.seed` is not used.
      workdir: receives a directory for each seed.
      callbacks: returns the callbacks of the run of a seed; they follow those of `config.train.callbacks`, of which
        each run has its own.

    Returns:
      The result of the run of each seed.

    Raises:
      ConfigError: there are no seeds, or they do not fit the other keys or several processes; or see
        `train_and_evaluate`.
      CheckpointError: `workdir` itself contains a run; or see `train_and_evaluate`.
      TrainingError: a step of a run is not finite; the message begins with its seed.
      DataError, WeightsError: see `train_and_evaluate`.
    """
    config, _ = with_public_network(config)
    validate(config)
    _check_processes(config)
    configs = {seed: config_of_seed(config, seed) for seed in config.train.seeds}
    directories = {seed: directory_of_seed(workdir, seed) for seed in configs}
    reacting = {
        seed: [*configured_callbacks(each, directories[seed].path), *callbacks(seed)] for seed, each in configs.items()
    }
    with contextlib.ExitStack() as stack:
        supervision = stack.enter_context(Supervision(saves=config.checkpoint.keep > 0))
        locks = {}
        for seed, directory in directories.items():
            locks[seed] = stack.enter_context(WorkdirLock(directory))
            supervision.before_exit(locks[seed].release)
        for each in reacting.values():
            stack.enter_context(reporting_errors(each))
        opened = _open_runs(stack, configs, directories)
        first = next(iter(opened.values()))
        compilation = first.compilation
        members = {
            seed: Member(
                each.run,
                each.state,
                each.checkpoints,
                [locks[seed], *each.writers, *reacting[seed]],
                compiled=compilation.compiled,
                supervision=supervision,
            )
            for seed, each in opened.items()
        }
        together = list(members.values())
        try:
            results = fit_members(together, step_together(together, compilation), supervision=supervision)
        except NonFiniteStep as error:
            seed = error.seed
            assert seed is not None
            raise _with_seed(recovery(members[seed].run, configs[seed], directories[seed], error), seed) from None
        return dict(zip(members, results, strict=True))


def config_of_seed(config: ConfigDict, seed: int) -> ConfigDict:
    """Returns the configuration of the run of one seed."""
    single = config.copy_and_resolve_references()
    single.seed, single.train.seeds = seed, ()
    return single


def directory_of_seed(workdir: str | Path, seed: int) -> Workdir:
    """Returns the working directory of the run of one seed."""
    return Workdir(Path(workdir) / f"seed-{seed}")


def _check_processes(config: ConfigDict) -> None:
    if not config.train.seeds:
        raise ConfigError("config.train.seeds = (): there is nothing to train; name the seeds, as in (0, 1, 2)")
    if jax.process_count() > 1:
        raise ConfigError(
            f"config.train.seeds = {tuple(config.train.seeds)}: seeds are trained together in one process, and there "
            f"are {jax.process_count()}; use (), and start a run of several processes for each config.seed"
        )


def _open_runs(
    stack: contextlib.ExitStack, configs: Mapping[int, ConfigDict], directories: Mapping[int, Workdir]
) -> dict[int, OpenRun]:
    """Returns the runs of all seeds with their open working directories; writes nothing if one of them is refused."""
    first = next(iter(configs))
    run = build(configs[first], workdir=directories[first])
    for seed, directory in directories.items():
        if Workdir(directory.path.parent).has_run():
            raise CheckpointError(
                f"{directory.path.parent}: contains a single run; give another --workdir for config.train.seeds"
            )
        directory.check_config(configs[seed])
        directory.check_data(run.data.splits)
        directory.check_keep(run.loop.checkpoints.keep)
    with config_key("log"):
        check_writer(configs[first].log.writer)
    load = functools.cache(functools.partial(load_weights, run))
    if not all(directory.has_checkpoint() for directory in directories.values()):
        load()  # Here, so that an error is raised before anything is written.
    opened = {}
    for row, (seed, directory) in enumerate(directories.items()):
        progress = ProgressBar(run.loop.checkpoints.best_metric, name=f"seed {seed}", row=row)
        opened[seed] = open_run(stack, directory, configs[seed], run.of_seed(seed), load, progress)
    return opened


def _with_seed(error: Exception, seed: int) -> TrainingError:
    return TrainingError(
        f"seed {seed}: {error}. To continue without this seed, leave it out of config.train.seeds; the others resume "
        "from their latest checkpoints"
    )
