"""Evaluates a trained network: `python -m flaxseg.evaluate runs/pet`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli

DESCRIPTION = """\
Evaluates a trained network and prints the scores of each class. The network is a run, one of its checkpoints, an
exported folder, or a file of weights beside a model.json. The data is by default what the run itself evaluates on,
and the scores are then equal to those of its training.
"""

EPILOG = """\
examples:
  python -m flaxseg.evaluate runs/pet
        the best checkpoint of a run, on the data of the run
  python -m flaxseg.evaluate runs/pet --step=700 --split=train --metrics=per_image,boundary
        another checkpoint and split, with further metrics
  python -m flaxseg.evaluate runs/pet --config.data.dir=DIR --json=scores.json --csv=images.csv
        the same dataset in another place; scores as files
  python -m flaxseg.evaluate runs/pet --data=DIR
        a folder with images/ and masks/, whose masks hold the indices of the network's classes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 1 for an error whose message is on stderr."""
    parser = cli.config_parser("python -m flaxseg.evaluate", description=DESCRIPTION, epilog=EPILOG, required=False)
    parser.add_argument("model", metavar="MODEL", help="a run, checkpoint, exported folder, or file of weights")
    parser.add_argument("--step", metavar="N", type=int, help="step of the run's checkpoint (default: the best)")
    parser.add_argument("--data", metavar="DIR", default="", help="evaluate on the folder DIR of images/ and masks/")
    parser.add_argument("--split", metavar="NAME", default="", help="split (default: the run's evaluation split)")
    parser.add_argument("--metrics", metavar="NAMES", help="further metrics, as in per_image,boundary")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all scores to a JSON file")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write the scores of each image to a CSV file")
    parser.add_argument("--overwrite", action="store_true", help="overwrite existing files")
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    cli.set_log_level(arguments.verbose)
    from flaxseg.deploy.evaluation_data import evaluation_config, open_evaluation_data
    from flaxseg.deploy.files import check_new
    from flaxseg.deploy.predictor import Predictor
    from flaxseg.deploy.saved import read_model
    from flaxseg.deploy.score_files import write_image_scores, write_scores

    for path in filter(None, (arguments.json, arguments.csv)):
        check_new(path, overwrite=arguments.overwrite)
    saved = read_model(arguments.model, step=arguments.step)
    config = evaluation_config(saved, config=arguments.config or "", overrides=overrides, data=arguments.data)
    data = open_evaluation_data(config, split=arguments.split)
    names = data.metrics if arguments.metrics is None else filter(None, arguments.metrics.split(","))
    per_image = ["per_image"] if arguments.csv else []
    scores = Predictor(saved).evaluate(
        data.dataset,
        metrics=tuple(dict.fromkeys([*names, *per_image])),
        resolution=data.resolution,
        batch_size=data.batch_size,
        num_threads=data.num_threads,
    )
    classes, images = saved.description.class_names, len(data.dataset.source)
    if data.dataset.class_names != classes:
        print(f"note: the dataset calls the classes {', '.join(data.dataset.class_names)}", file=sys.stderr)
    print(f"{saved.name} on {data.name}: {images:,} images\n\n{scores.table(classes)}")
    if arguments.json:
        about = {"model": saved.name, "step": saved.step, "data": data.name, "images": images}
        write_scores(arguments.json, scores, classes, about)
    if arguments.csv:
        write_image_scores(arguments.csv, scores.others["per_image"], classes, data.dataset.source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
