"""Trains a network: `flaxseg train --config=pet --workdir=DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxseg import cli
from flaxseg.errors import number_of

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from flaxseg.train.result import Result

DESCRIPTION = """\
Trains a segmentation network according to a configuration, evaluates it and saves checkpoints.
Repeat the command to resume a run that was stopped.
"""

EPILOG = """\
examples:
  flaxseg train --config=shapes
        train on the built-in dataset, which needs no download
  flaxseg train --config=pet:small --workdir=runs/try
        use a variant of a configuration
  flaxseg train --config=folder --config.data.dir=DIR --config.train.epochs=20
        train on your own images and masks; every key of the configuration can be set
  srun flaxseg train --config=pet --workdir=DIR --distributed=auto
        train on all devices of a SLURM job; DIR is on a disk that all its machines share
  flaxseg train --help_config optimizer
        describe the keys of a section
  flaxseg train --config=pet --print_config
        print every key with its value
"""

NOT_EVALUATED = "not evaluated, because config.data.eval_split is ''"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: success; 1: invalid input, with a message on stderr; 128 plus the number of a signal: stopped by that signal.
    """
    parser = cli.config_parser("flaxseg train", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--workdir", metavar="DIR", help="directory of the run (default: runs/ and the configuration's name)"
    )
    parser.add_argument(
        "--print_config",
        action="store_true",
        help="check the configuration, print every KEY = VALUE and the options that can be set, and exit",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="compile a step without running it, print the memory, operations and communication of each device, the "
        "largest batch that fits and the least time of an epoch on well-known accelerators, and exit",
    )
    parser.add_argument(
        "--distributed",
        metavar="auto|HOST:PORT,N,I",
        help="join the processes of one run: auto finds them under SLURM, Open MPI, on TPU pods and in Kubernetes; or "
        "give the address of the first process, the number of processes, and the number of this one, from 0",
    )
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped before training began")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from flaxseg.config.files import load_config
    from flaxseg.config.help import default_options
    from flaxseg.config.members import named_together
    from flaxseg.config.schema import leaves
    from flaxseg.config.validate import validate

    config = load_config(arguments.config, overrides)
    if arguments.print_config or not dict(leaves(config)).get("model.pretrained"):
        # Here, because what follows takes a second to import. A public network completes the configuration first.
        validate(config)
    if arguments.print_config:
        for key, value in leaves(config):
            print(f"{key} = {value!r}")
        print("\n# options that have their defaults")
        for line in default_options(config):
            print(line)
        return 0
    cli.prepare(verbose=arguments.verbose)
    if arguments.distributed:
        from flaxseg.train.distributed import join

        join(arguments.distributed)
    if arguments.dry_run:
        from flaxseg.train.dry_run import dry_run

        print("compiling a training step for three batch sizes, without running it", file=sys.stderr)
        print(dry_run(config))
        return 0
    workdir = Path(arguments.workdir or Path("runs") / cli.run_name(arguments.config))
    if named_together(dict(leaves(config))):
        results = _train_together(config, workdir)
    else:
        from flaxseg.train.loop import train_and_evaluate

        results = [train_and_evaluate(config, workdir)]
        _report(results[0], config, workdir)
    stopped_by = max(each.stopped_by for each in results)
    return 128 + stopped_by if stopped_by else 0


def _train_together(config: "ConfigDict", workdir: Path) -> "list[Result]":
    from flaxseg.train.members import FailedRuns, train_together

    try:
        results = train_together(config, workdir)
    except FailedRuns as error:
        _report_together(error.results, config, workdir)
        raise
    _report_together(results, config, workdir)
    return [*results.values()]


def _report(result: "Result", config: "ConfigDict", workdir: Path) -> None:
    """Prints the result of a run, in its first process."""
    import jax

    if jax.process_index() > 0:
        return
    # A table of earlier scores would hide that the run is not complete.
    other = None if result.stopped_by else _other_best(result, config)
    if result.stopped_by:
        print()
    elif config.data.eval_split:
        if result.evaluated_step is not None:
            print(f"\nscores of step {result.evaluated_step:,} on {config.data.eval_split}", end="")
        print(f"\n{result.table()}\n")
        if other:
            score = f"{config.checkpoint.best_metric} {result.best_score:.4f}"
            print(f"flaxseg.load, evaluate, predict and export use the best checkpoint, step {other:,} ({score})")
        print(f"images        {workdir / 'images'}")
    else:
        print(f"\n{NOT_EVALUATED}\n")
    saved = workdir / "checkpoints" if config.checkpoint.keep else "none was saved"
    notes = ["" if other else _best(result, config), _size(workdir / "checkpoints")]
    print(f"checkpoints   {saved} ({'; '.join(filter(None, notes))})")
    if not result.stopped_by:
        _report_tensorboard(config, workdir)
    _report_incidents(result, config)


def _report_together(results: "dict[str, Result]", config: "ConfigDict", workdir: Path) -> None:
    """Prints the results of runs that were trained together."""
    from flaxseg.config.members import setting
    from flaxseg.report.spread import spread_table

    scores = {name: each.scores.compute(each.class_names) if each.scores else {} for name, each in results.items()}
    metrics = dict.fromkeys([config.checkpoint.best_metric, "miou", "mean_dice", "pixel_accuracy"])
    settings = {name: setting(name) for name in results}
    print(f"\n{spread_table(scores, list(metrics), settings) if config.data.eval_split else NOT_EVALUATED}\n")
    for name, result in results.items():
        print(f"{workdir / name} (step {int(result.state.step)}, {_best(result, config)})")
        _report_incidents(result, config)
    _report_tensorboard(config, workdir)


def _report_tensorboard(config: "ConfigDict", workdir: Path) -> None:
    if config.log.writer != "none":
        print(f"TensorBoard   tensorboard --logdir {workdir}")


def _other_best(result: "Result", config: "ConfigDict") -> int | None:
    """Returns the step of the best checkpoint, if the last evaluation is that of another one."""
    differs = config.checkpoint.keep and None not in (result.best_step, result.evaluated_step)
    return result.best_step if differs and result.best_step != result.evaluated_step else None


def _best(result: "Result", config: "ConfigDict") -> str:
    """Returns which checkpoint is the best."""
    if not config.data.eval_split:
        return f"latest: step {int(result.state.step)}"
    if result.best_step is None:
        return "none evaluated yet"
    return f"best: step {result.best_step}, {config.checkpoint.best_metric} {result.best_score:.4f}"


def _size(checkpoints: Path) -> str:
    """Returns the size of a folder of checkpoints, as `425 MB in all`; "" if there are none."""
    from flaxseg.data.memory import size_text

    total = sum(path.stat().st_size for path in checkpoints.rglob("*") if path.is_file())
    return f"{size_text(total)} in all" if total else ""


def _report_incidents(result: "Result", config: "ConfigDict") -> None:
    for message in result.skipped:
        print(f"skipped       {message}")
    if result.skipped_steps:
        print(f"not finite    {number_of(result.skipped_steps, 'step')} skipped (config.train.non_finite)")
    if result.rollbacks:
        print(f"not finite    returned to a checkpoint {number_of(result.rollbacks, 'time')} (config.train.non_finite)")
    if result.stopped_early:
        print(
            f"stopped early at step {int(result.state.step)}: {config.checkpoint.best_metric} has not improved since "
            f"step {result.best_step} (config.train.early_stop = {config.train.early_stop})"
        )
    if result.stopped_by:
        remedy = "resume" if config.checkpoint.keep else "begin anew"
        print(f"stopped at step {int(result.state.step)}; repeat the command to {remedy}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
