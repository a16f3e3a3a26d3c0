"""Exports a trained network: `flaxseg export runs/pet --format=onnx --output=exported/pet`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli, interrupts
from flaxseg.deploy.calibration import calibrated
from flaxseg.deploy.evaluation_data import evaluation_config, open_evaluation_data
from flaxseg.deploy.export_formats import FORMATS, ExportOptions
from flaxseg.deploy.folder import check_output, export_network
from flaxseg.deploy.hub import push
from flaxseg.deploy.program import parse_size
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.weights import WEIGHTS

DESCRIPTION = """\
Writes a folder with the weights of a trained network (model.safetensors, model.json), programs that run without
flaxseg, and a model card. Each file is loaded by its own runtime and compared with the network before it is kept.

exit status: 0, everything was written; 1, an argument has a wrong value or a file does not compute what the network
does, and nothing was written; 2, an unknown argument; 130, stopped by Ctrl-C.
"""

EPILOG = """\
examples:
  flaxseg export runs/pet --output=exported/pet
        weights, their description and a model card, for flaxseg.load
  flaxseg export runs/pet --output=exported/pet --format=onnx --argmax
        also an ONNX file that returns class indices
  flaxseg export runs/pet --output=exported/pet --format=stablehlo,onnx --data=images
        compare on the images of a folder
  flaxseg export runs/pet --output=exported/pet --format=onnx --weights=int8 --data=DIR
        store kernels as 8-bit integers; with DIR/images and DIR/masks, report the mIoU before and after
  flaxseg export runs/pet --output=exported/pet --push=OWNER/NAME --license=cc-by-4.0
        also upload the folder to the Hugging Face hub
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which `DESCRIPTION` explains."""
    parser = cli.command_parser("flaxseg export", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    cli.add_models(parser, "the --workdir of a run, an exported folder, or hf:OWNER/NAME")
    add("--output", metavar="DIR", required=True, help="the folder to write")
    add("--format", metavar="NAME[,NAME]", default="safetensors", help=f"{', '.join(FORMATS)} (default: safetensors)")
    add("--step", metavar="N", type=int, help="the checkpoint (default: the best)")
    add("--accept_license", action="store_true", help="accept a non-commercial or custom license of public weights")
    add(
        "--data",
        metavar="DIR",
        help="compare on the first images of this folder, or, if it has the folders images/ "
        "and masks/, also the mIoU (default: on the samples that the run stored, or random images)",
    )
    images = "largest number of images to compare on, which takes most of the time (default: 20)"
    add("--images", metavar="N", type=int, default=20, help=images)
    add("--argmax", action="store_true", help="programs return class indices instead of logits")
    add("--softmax", action="store_true", help="programs return probabilities instead of logits")
    add("--normalize", action=argparse.BooleanOptionalAction, default=True, help="programs take values of 0..255")
    add("--image_size", metavar="H,W", help="fix the size of the images (default: any where possible)")
    add("--weights", metavar="TYPE", default="float32", help=f"{', '.join(WEIGHTS)} (default: float32)")
    add("--fold", action=argparse.BooleanOptionalAction, default=True, help="fold batch normalization in programs")
    add("--calibrate", action="store_true", help="fit the temperature on the evaluation data, or --data")
    add("--license", metavar="NAME", help="license of the weights for the model card, such as cc-by-4.0")
    add("--push", metavar="OWNER/NAME", help="upload the folder to this repository of the Hugging Face hub")
    add("--private", action="store_true", help="with --push, create a private repository")
    add("--overwrite", action="store_true", help="replace the files of an earlier export")
    arguments = parser.parse_args(argv)
    source, *others = cli.models(parser, arguments)
    if others:
        parser.error(f"one network is exported, but {1 + len(others)} are given: {', '.join((source, *others))}")
    if arguments.argmax and arguments.softmax:
        parser.error("--argmax and --softmax exclude each other; give one of them")
    return cli.exit_status(lambda: _run(arguments, source), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, source: str) -> int:
    interrupts.raise_from_now_on()
    options = ExportOptions(
        formats=tuple(arguments.format.split(",")),
        output="classes" if arguments.argmax else "probabilities" if arguments.softmax else "logits",
        normalized=arguments.normalize,
        weights=arguments.weights,
        image_size=parse_size(arguments.image_size),
        images=arguments.images,
        license=arguments.license,
        fold=arguments.fold,
    )
    cli.prepare(verbose=False)
    output = Path(arguments.output)
    check_output(output, Path(source), overwrite=arguments.overwrite)
    saved = read_model(source, step=arguments.step, accept_license=arguments.accept_license)
    if arguments.calibrate:
        data = open_evaluation_data(evaluation_config(saved, data=arguments.data or ""))
        saved = calibrated(saved, data.dataset)
        print(f"calibrated on {data.name}: the temperature is {saved.description.temperature:.3g}")
    export_network(saved, output, options, data=arguments.data, say=print)
    print(f"\nwritten  {output}")
    if arguments.push:
        print(f"pushed   {push(output, arguments.push, private=arguments.private)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
