"""Checks and shows a dataset without training: `flaxseg inspect --config=pet`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli, interrupts
from flaxseg.config.files import load_config
from flaxseg.config.flags import flag
from flaxseg.config.validate import validate
from flaxseg.errors import check_integer
from flaxseg.inspection.dataset import inspect_dataset
from flaxseg.inspection.from_config import dataset_to_inspect, training_setup
from flaxseg.inspection.output import prepare_output, write_report
from flaxseg.inspection.report import terminal_text

DESCRIPTION = """\
Reads every image and mask of a dataset and reports, without training: sizes, the fraction of the pixels of each
class, class weights, files that cannot be used, mask values without a class, duplicate images, and the settings that
would repair what is wrong. Writes a page that shows images with their labels, and training batches as the network
receives them.

exit status: 0, the dataset can be trained on, perhaps with warnings; 1, it cannot, or an argument is wrong;
130, stopped by Ctrl-C.
"""

EPILOG = """\
examples:
  flaxseg inspect --config=shapes
        the built-in dataset
  flaxseg inspect --config=folder --config.data.dir=DIR --output=runs/look
        images and masks of your own; any key of the configuration can be set, as for flaxseg train
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which `DESCRIPTION` explains."""
    parser = cli.config_parser("flaxseg inspect", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--output", metavar="DIR", help="where to write the page (default: runs/inspect-CONFIG)")
    parser.add_argument("--images", metavar="N", type=int, default=24, help="images shown of each split (default: 24)")
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped; no report was written")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    interrupts.raise_from_now_on()
    config = load_config(arguments.config, overrides)
    validate(config)
    check_integer("--images", arguments.images, 0)
    output = Path(arguments.output or Path("runs") / f"inspect-{cli.run_name(arguments.config)}")
    created = prepare_output(output)
    cli.prepare(verbose=arguments.verbose)
    inspection = inspect_dataset(
        dataset_to_inspect(config),
        training_setup(config),
        title=f"{config.data.name} ({arguments.config})",
        max_images=arguments.images,
        num_threads=config.data.num_threads,
    )
    print(terminal_text(inspection, flag))
    if inspection.is_empty:
        for directory in created:
            directory.rmdir()
    else:
        write_report(output, inspection, flag)
        print(f"\nreport  {output / 'index.html'}")
    return 0 if inspection.trainable else 1


if __name__ == "__main__":
    sys.exit(main())
