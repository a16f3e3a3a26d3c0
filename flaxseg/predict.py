"""Predicts images with a trained network: `flaxseg predict runs/pet --input=DIR --output=DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxseg import cli, interrupts
from flaxseg.errors import ArgumentError, DataError, FlaxsegError

if TYPE_CHECKING:
    from flaxseg.deploy.prediction_inputs import InputImage

DESCRIPTION = """\
Predicts the class of each pixel of images with a trained network. Writes, below the output folder,

  masks/NAME.png          class indices, with the colors of the classes as palette, at the image's own size;
                          NAME.tif for TIFF images, which keeps the georeference of a GeoTIFF; NAME.npy for NPY
  overlays/NAME.png       with --overlay: the classes drawn over the image, with a legend
  probabilities/NAME.npz  with --probabilities: the array `probabilities`, float16[H, W, classes]
  KIND/NAME.png           with --uncertainty=KIND: gray levels from 0, certain, to 255, as uncertain as can be
  summary.csv             the number of pixels of each class in each image

and for a video

  videos/NAME.mp4         the classes drawn over the frames
  areas/NAME.csv          the number of pixels of each class in each frame
  masks/NAME/000000.png   with --frame_masks: the class indices of each frame

Images keep their names and subfolders. Of the files in a folder, masks that the dataset of the run would pair with
images are left out. Repeat the command to predict only images whose results are missing, or older than they are.

TIFF and NPY images of more than --max_megapixels are read, predicted and written in blocks, so that they can be larger
than memory; of these, only the mask is written. The network must have been trained with data.resize=keep. Larger images
of other formats are not read.

exit status: 0; 1, an argument has a wrong value, or images could not be read, which are listed at the end; 2, an
unknown argument; 130, Ctrl-C.
"""

EPILOG = """\
examples:
  flaxseg predict runs/pet --input=photos --output=predictions
        all images in a folder and its subfolders, with the best checkpoint of a run
  flaxseg predict runs/pet --step=700 --input a.jpg 'more/*.png' --output=predictions --overlay
        single files, and those that a pattern finds
  flaxseg predict runs/pet --split=test --output=predictions
        a split of the dataset that the network was trained on; its images need no masks
  flaxseg predict runs/pet --input=cat.mp4 --output=predictions
        a video
  flaxseg predict runs/a runs/b --input=photos --output=predictions --uncertainty=disagreement
        an ensemble of two runs, and where its members disagree
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which `DESCRIPTION` explains."""
    parser = cli.command_parser("flaxseg predict", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    cli.add_models(parser, "a run, export or weights; several for an ensemble")
    add("--input", metavar="PATH", nargs="+", action="extend", help="images, folders, patterns, or videos")
    add("--split", metavar="NAME", help="instead of --input: a split of the run's dataset; it needs no masks")
    add("--output", metavar="DIR", type=Path, required=True, help="folder of the results")
    add("--overlay", action="store_true", help="write the classes drawn over the images")
    add("--probabilities", action="store_true", help="write the probabilities of the classes")
    add(
        "--uncertainty",
        choices=("entropy", "margin", "disagreement"),
        default="",
        help="write how uncertain the prediction of each pixel is; disagreement: of an ensemble",
    )
    add("--frame_masks", action="store_true", help="write the masks of the frames of videos")
    add("--overwrite", action="store_true", help="replace results that exist")
    cli.add_inference_options(parser)
    add(
        "--tiling",
        choices=("blend", "exact"),
        default="blend",
        help="how tiles are combined: averaged (default), or exactly as the whole image, where the network allows it",
    )
    add("--halo", metavar="N", type=int, help="halo of exact tiles (default: what the network needs)")
    add(
        "--batch_size",
        metavar="N",
        type=int,
        help="images or tiles predicted at once; multiples of the number of devices use all (default: that number)",
    )
    add(
        "--fold",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fold batch normalization; --no-fold: predictions equal the evaluation's to the last bit",
    )
    add("--max_megapixels", metavar="N", type=float, default=64.0, help="largest image read whole (default: 64)")
    add("--verbose", action="store_true", help="show the log messages of JAX and other libraries")
    arguments = parser.parse_args(argv)
    arguments.model = cli.models(parser, arguments)
    interrupted = "stopped; repeat the command to predict the remaining images"
    return cli.exit_status(lambda: _run(arguments), interrupted=interrupted)


def _run(arguments: argparse.Namespace) -> int:
    cli.prepare(verbose=arguments.verbose)
    import jax

    from flaxseg.deploy.predict_files import predict_files
    from flaxseg.deploy.predict_videos import predict_videos
    from flaxseg.deploy.prediction_files import PredictionFiles
    from flaxseg.deploy.prediction_report import prediction_report
    from flaxseg.deploy.predictor import load

    interrupts.raise_from_now_on()
    try:
        found = _inputs(arguments)
    except FlaxsegError as error:
        # Both at once, rather than the second only after the first is repaired.
        if problems := _missing_models(arguments):
            listed = "".join(f"\n  {problem}" for problem in (error, *problems))
            raise DataError(f"{1 + len(problems)} problems:{listed}") from error
        raise
    if arguments.batch_size is None:
        arguments.batch_size = jax.local_device_count()
    options = {name: getattr(arguments, name) for name in ("tiling", "halo", "batch_size", "fold", "max_megapixels")}
    model = load(arguments.model, **cli.inference_options(arguments), **options)
    if model.tiles.note:
        print(model.tiles.note, file=sys.stderr)
    if arguments.uncertainty:
        model.check_uncertainty(arguments.uncertainty)
    files = PredictionFiles(
        arguments.output,
        model.classes,
        model.palette,
        overlays=arguments.overlay,
        probabilities=arguments.probabilities,
        uncertainty=arguments.uncertainty,
        members=len(model.members),
        frame_masks=arguments.frame_masks,
        overwrite=arguments.overwrite,
    )
    if any(each.is_large for each in found) and (arguments.overlay or files.maps):
        print(
            f"of images of more than {arguments.max_megapixels:g} megapixels, only masks are written", file=sys.stderr
        )
    files.claim(found, model.name, model.digest())
    if any(
        Path(each).is_dir() and arguments.output.resolve().is_relative_to(Path(each).resolve())
        for each in arguments.input or ()
    ):
        print(
            f"note: {arguments.output} lies in an input folder; a dataset of that folder would include it",
            file=sys.stderr,
        )
    images, videos = ([each for each in found if each.is_video == kind] for kind in (False, True))
    outcomes = {"images": predict_files(model, images, files)} if images else {}
    outcomes |= {"videos": predict_videos(model, videos, files)} if videos else {}
    lines, failures = prediction_report(model.name, model.classes, outcomes, str(arguments.output))
    print("\n".join(lines))
    print("".join(f"{line}\n" for line in failures), end="", file=sys.stderr)
    return 1 if failures else 0


def _missing_models(arguments: argparse.Namespace) -> list[FlaxsegError]:
    """Returns the error of each --model that is a path where nothing is."""
    from flaxseg.deploy.saved import read_model

    found = []
    for path in arguments.model:
        if not path.startswith("hf:") and not Path(path).exists():
            try:
                read_model(path)
            except FlaxsegError as error:
                found.append(error)
    return found


def _inputs(arguments: argparse.Namespace) -> "list[InputImage]":
    """Returns the images and videos that --input or --split names."""
    from flaxseg.config.files import load_config
    from flaxseg.deploy.evaluation_data import check_recorded_folder
    from flaxseg.deploy.prediction_inputs import find_images, recorded_masks, split_images

    if bool(arguments.input) == bool(arguments.split):
        raise DataError(
            "--input and --split name different images: give one of them"
            if arguments.input
            else "give either --input=PATH, or --split=NAME for a split of the dataset that the run was trained on"
        )
    if arguments.input:
        return find_images(
            arguments.input,
            output=arguments.output,
            max_megapixels=arguments.max_megapixels,
            masks=recorded_masks(arguments.model[0]),
            announce=lambda line: print(line, file=sys.stderr),
        )
    config = Path(arguments.model[0]) / "config.json"
    if not config.is_file():
        problem = f"{arguments.model[0]} is not the directory of a run, which records its dataset; give --input instead"
        raise ArgumentError("--split", arguments.split, problem)
    settings = load_config(str(config))
    check_recorded_folder(settings, str(config))
    return split_images(settings, arguments.split, max_megapixels=arguments.max_megapixels)


if __name__ == "__main__":
    sys.exit(main())
