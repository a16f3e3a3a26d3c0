"""Evaluates a trained network: `flaxseg evaluate runs/pet`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli, interrupts
from flaxseg.errors import DataError

DESCRIPTION = """\
Evaluates a trained network and prints the scores of each class. The network is a run, one of its checkpoints, an
exported folder, a file of weights beside a model.json, or a public network (hf:OWNER/NAME or a folder); several form an
ensemble. The data is by default what the (first) run itself evaluates on, and the scores of one network are then equal
to those of its training.
"""

EPILOG = """\
examples:
  flaxseg evaluate runs/pet
        the best checkpoint of a run, on the data of the run
  flaxseg evaluate runs/pet --step=700 --split=train --metrics=per_image,boundary
        another checkpoint and split, with further metrics
  flaxseg evaluate runs/pet --config.data.dir=DIR --json=scores.json --csv=images.csv
        the same dataset in another place; scores as files
  flaxseg evaluate runs/pet --report=report.html
        scores with intervals, curves, and the worst and best images as one HTML page
  flaxseg evaluate runs/pet --data=DIR
        a folder of images and masks, whose masks are like those of the folder that the network was trained on, or
        contain the indices of its classes if it was trained on another dataset
  flaxseg evaluate hf:OWNER/NAME --data=DIR --whole
        a public network, on images that are predicted at their own size
  flaxseg evaluate runs/pet-1 runs/pet-2 --scales=0.75,1,1.25 --flips=horizontal
        an ensemble with test-time augmentation
"""

_DATA = "evaluate on the folder DIR: with images/ and masks/, or laid out as the folder that the network was trained on"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 1 for an error whose message is on stderr."""
    parser = cli.config_parser("flaxseg evaluate", description=DESCRIPTION, epilog=EPILOG, required=False)
    cli.add_models(parser, "a run, checkpoint, exported folder, weights, or hf:OWNER/NAME; several for an ensemble")
    cli.add_inference_options(parser)
    parser.add_argument("--whole", action="store_true", help="predict large images whole instead of in tiles")
    parser.add_argument("--data", metavar="DIR", default="", help=_DATA)
    parser.add_argument("--split", metavar="NAME", default="", help="split (default: the run's evaluation split)")
    parser.add_argument("--metrics", metavar="NAMES", help="further metrics, as in per_image,boundary")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all scores to a JSON file")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write the scores of each image to a CSV file")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write a report of everything as one HTML page")
    parser.add_argument("--overwrite", action="store_true", help="overwrite existing files")
    arguments, overrides = cli.parse(parser, argv)
    arguments.model = cli.models(parser, arguments)
    command = shlex.join(["flaxseg", "evaluate", *(sys.argv[1:] if argv is None else argv)])
    return cli.exit_status(lambda: _run(arguments, overrides, command), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, overrides: list[str], command: str) -> int:
    cli.prepare(verbose=arguments.verbose)
    from flaxseg.config.flags import flags_to_open
    from flaxseg.deploy.evaluation_data import evaluation_config, note_on_training_images, open_evaluation_data
    from flaxseg.deploy.evaluation_report import evaluate_for_report, write_report
    from flaxseg.deploy.files import check_new
    from flaxseg.deploy.predictor import load
    from flaxseg.deploy.score_files import write_image_scores, write_scores

    interrupts.raise_from_now_on()
    for path in filter(None, (arguments.json, arguments.csv, arguments.report)):
        check_new(path, overwrite=arguments.overwrite)
    model = load(arguments.model, fold=False, **cli.inference_options(arguments))
    first = model.members[0]
    config = evaluation_config(first, config=arguments.config or "", overrides=overrides, data=arguments.data)
    try:
        data = open_evaluation_data(config, split=arguments.split)
    except DataError as error:
        if flags := flags_to_open(error, config.data):
            raise DataError(f"{error}\n{flags}") from error
        raise
    names = data.metrics if arguments.metrics is None else filter(None, arguments.metrics.split(","))
    options = {
        "metrics": tuple(dict.fromkeys([*names, *(["per_image"] if arguments.csv else [])])),
        "resolution": data.resolution,
        "whole": arguments.whole,
        "batch_size": data.batch_size,
        "num_threads": data.num_threads,
    }
    reported = evaluate_for_report(model, data.dataset, **options) if arguments.report else None
    scores = reported.requested if reported else model.evaluate(data.dataset, **options)
    classes, images = model.classes, len(data.dataset.source)
    if data.dataset.class_names != classes:
        print(f"note: the dataset calls the classes {', '.join(data.dataset.class_names)}", file=sys.stderr)
    for member in model.members:
        if note := note_on_training_images(member, config, arguments.split or config.data.eval_split):
            print(note, file=sys.stderr)
    of_masks = f", {data.masks}" if arguments.data else ""
    print(f"{model.name} on {data.name}{of_masks}: {images:,} images\n\n{scores.table(classes)}", flush=True)
    if arguments.json:
        about = {"model": model.name, "step": first.step, "data": data.name, "images": images}
        write_scores(arguments.json, scores, classes, about)
    if arguments.csv:
        write_image_scores(arguments.csv, scores.others["per_image"], classes, data.dataset.source)
    if reported:
        write_report(arguments.report, reported, data=data.name + of_masks, config=config.to_dict(), command=command)
        print(f"\nreport  {arguments.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
