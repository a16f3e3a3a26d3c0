"""Lists the networks and encoders with their costs: `flaxseg models`."""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from flaxseg.errors import ArgumentError, FlaxsegError, check_choice, check_integer, did_you_mean
from flaxseg.models import MODELS
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.tables import (
    MARKDOWN_COLUMNS,
    TEXT_COLUMNS,
    architecture_row,
    encoder_row,
    markdown_table,
    text_header,
    text_line,
)

DESCRIPTION = """\
Prints a table of all architectures, each with its default options, and one of all encoders.

  parameters  in millions: of the whole network, or of the encoder alone
  stride      height and width are padded to multiples of it
  strides     the output strides that an encoder supports, for networks with this option; GMACs are given for the last
  GMACs       billions of multiply-adds in the convolutions and matrix products for one image, including bilinear
              resizing; FLOPs are twice as many
  mean / std  images with values 0..255 are normalized by them, as for the public weights
  weights     the public weights on the Hugging Face hub that "imagenet" stands for: repository@revision

All of it follows from shapes: nothing is computed, and no device is used.

exit status: 0; 1, a name or an argument is wrong; 130, stopped by Ctrl-C.
"""

EPILOG = """\
examples:
  flaxseg models
  flaxseg models unet deeplabv3plus resnet50 mit_b2 --size 1024 2048 --classes 19
  flaxseg models unet deeplabv3plus --encoder resnet18
  flaxseg models --json > networks.json
        exact numbers and full revisions
  flaxseg models --markdown
        the tables of docs/models.md, also with the licenses of the weights
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = _parser().parse_intermixed_args(argv)
    try:
        _run(arguments)
    except FlaxsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the table, such as `head`, has closed the pipe. Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flaxseg models",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures and encoders to show (default: all)")
    parser.add_argument(
        "--size", nargs=2, type=int, default=(512, 512), metavar=("HEIGHT", "WIDTH"), help="(default: 512 512)"
    )
    parser.add_argument("--encoder", metavar="NAME", help="encoder of the architectures (default: each one's own)")
    parser.add_argument("--classes", type=int, default=2, metavar="N", help="classes of the networks (default: 2)")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON object instead")
    formats.add_argument("--markdown", action="store_true", help="print tables for a Markdown page instead")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    height, width = arguments.size
    for option, value in (("--size", height), ("--size", width), ("--classes", arguments.classes)):
        check_integer(option, value, 1)
    names, encoder = _selected(arguments.names), arguments.encoder or ""
    if encoder:
        check_choice("--encoder", encoder, ENCODERS)
    row_functions: dict[str, Callable[[str], dict[str, Any]]] = {
        "architectures": functools.partial(
            architecture_row, size=(height, width), classes=arguments.classes, encoder=encoder
        ),
        "encoders": functools.partial(encoder_row, size=(height, width)),
    }
    # `disable=None` shows the bar on a terminal only.
    with tqdm(total=sum(map(len, names.values())), unit="network", leave=False, disable=None) as bar:
        tables = {kind: _with_progress(bar, map(row_functions[kind], names[kind])) for kind in row_functions}
        if arguments.json:
            about = {"height": height, "width": width, "channels": 3, "classes": arguments.classes}
            bar.write(json.dumps(about | {kind: list(rows) for kind, rows in tables.items()}, indent=1))
            return
        if arguments.markdown:
            shown = [markdown_table(columns, tables[kind]) for kind, columns in MARKDOWN_COLUMNS.items() if names[kind]]
            bar.write("\n\n".join(shown))
            return
        bar.write(f"for an image of {height} x {width} x 3 and {arguments.classes} classes; GMACs are multiply-adds")
        for kind, columns in TEXT_COLUMNS.items():
            for number, row in enumerate(tables[kind]):
                if number == 0:
                    bar.write("\n" + text_header(columns))
                bar.write(text_line(columns, row))
                sys.stdout.flush()


def _selected(names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the architectures and the encoders among the names, in the tables' order; all of them without names."""
    known = [*MODELS, *ENCODERS]
    for name in names:
        if name not in known:
            raise ArgumentError(
                "NAME",
                name,
                f"no architecture or encoder has this name{did_you_mean(name, known)}. Architectures are "
                f"{', '.join(MODELS)}; encoders are {', '.join(ENCODERS)}",
            )
    chosen = set(names or known)
    return {
        "architectures": [name for name in MODELS if name in chosen],
        "encoders": [name for name in ENCODERS if name in chosen],
    }


def _with_progress(bar: Any, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the rows, advancing the bar with each."""
    for row in rows:
        bar.update()
        yield row


if __name__ == "__main__":
    sys.exit(main())
