"""Examines the installation, the devices and a run: `flaxseg doctor runs/pet`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from flaxseg import cli, interrupts

DESCRIPTION = """\
Reports the versions, devices, memory and storage, whether a small training step on each device gives the numbers of the
CPU, and, given the directory of a run, whether each of its checkpoints and files is intact, which checkpoint a resumed
run would continue from, and which one flaxseg.load would use. Each problem is followed by what to do about it. Nothing
is changed.

exit status: 0, healthy, perhaps with notes; 1, something is wrong; 130, stopped by Ctrl-C. With --replay: 0, the step
is not finite in the same way as in the run; 1, it is not.
"""

EPILOG = """\
examples:
  flaxseg doctor
        the installation, the devices, and the storage of the current folder
  flaxseg doctor runs/pet
        also a run, which may be training right now
  flaxseg doctor runs/pet --skip_devices --json > report.json
        leave the devices alone, as they are in use; a report for programs
  flaxseg doctor --replay runs/pet/non_finite/step_0000123.npz
        run a training step again that was not finite, and show where such values begin
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which `DESCRIPTION` explains."""
    parser = cli.command_parser("flaxseg doctor", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("workdir", metavar="WORKDIR", nargs="?", type=Path, help="directory of a run")
    parser.add_argument("--replay", metavar="FILE", type=Path, help="run a recorded training step again, and only this")
    parser.add_argument("--skip_devices", action="store_true", help="do not use the devices, only list the software")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--verbose", action="store_true", help="show the log messages of JAX and other libraries")
    arguments = parser.parse_args(argv)
    return cli.exit_status(lambda: _run(arguments), interrupted="stopped; nothing was changed")


def _run(arguments: argparse.Namespace) -> int:
    cli.prepare(verbose=arguments.verbose)
    from flaxseg.diagnosis.checks import examine_machine, examine_run, examine_storage
    from flaxseg.diagnosis.findings import Section, conclusion, section_text, to_json

    interrupts.raise_from_now_on()
    if arguments.replay:
        return _replay(arguments.replay)

    def sections() -> Iterator[Section]:
        yield from examine_machine(skip_devices=arguments.skip_devices)
        yield examine_storage(arguments.workdir or Path())
        if arguments.workdir:
            yield from examine_run(arguments.workdir)

    found = []
    for section in sections():
        found.append(section)
        if not arguments.json:
            # At once, because a device may take long, or never answer.
            print(f"{section_text(section)}\n", flush=True)
    print(json.dumps(to_json(found), indent=2) if arguments.json else conclusion(found))
    return 1 if any(section.problems for section in found) else 0


def _replay(file: Path) -> int:
    from flaxseg.train.replay import replay

    found = replay(file)
    print(found)
    return 0 if found.is_reproduced else 1


if __name__ == "__main__":
    sys.exit(main())
