"""Lists the networks and encoders with their costs: `python -m flaxseg.models`."""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from tqdm import tqdm

from flaxseg.errors import ArgumentError, FlaxsegError, check_integer, did_you_mean
from flaxseg.models import MODELS, build_model
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.flops import multiply_adds

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
  python -m flaxseg.models
  python -m flaxseg.models unet deeplabv3plus resnet50 mit_b2 --size 1024 2048 --classes 19
  python -m flaxseg.models --json > networks.json
        exact numbers and full revisions
"""

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str, Callable[[Row], str]]]
"""Title, alignment and width, and a function that returns the text."""

_COSTS: Columns = (
    ("parameters", ">10", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
    ("GMACs", ">9", lambda row: f"{row['multiply_adds'] / 1e9:.2f}"),
)

_ARCHITECTURES: Columns = (
    ("architecture", f"<{max(map(len, MODELS))}", lambda row: row["name"]),
    *_COSTS,
    ("stride", ">8", lambda row: str(row["stride"])),
    ("encoder", "<", lambda row: row["encoder"] or "none"),
)

_ENCODERS: Columns = (
    ("encoder", f"<{max(map(len, ENCODERS))}", lambda row: row["name"]),
    *_COSTS,
    ("strides", ">8", lambda row: ",".join(map(str, row["output_strides"]))),
    ("mean / std", "<44", lambda row: f"{_joined(row['mean'])} / {_joined(row['std'])}"),
    ("weights", "<", lambda row: "{repository}@{revision:.7}".format(**row["weights"]) if row["weights"] else "none"),
)


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


def architecture_row(name: str, *, size: tuple[int, int], classes: int) -> dict[str, Any]:
    """Returns the facts about a network of MODELS, for three-channel images of this height and width."""
    model = build_model(name, num_classes=classes)
    parameters, operations = _costs(model, size)
    return {
        "name": name,
        "encoder": getattr(model, "encoder_name", None),
        "parameters": parameters,
        "stride": model.stride,  # type: ignore[attr-defined]
        "multiply_adds": operations,
    }


def encoder_row(name: str, *, size: tuple[int, int]) -> dict[str, Any]:
    """Returns the facts about an encoder of ENCODERS, for three-channel images of this height and width."""
    encoder, module = ENCODERS[name], make_encoder(name, dtype=jnp.float32)
    stride = int(module.output_stride)  # type: ignore[attr-defined]
    # Networks pad images to multiples of the stride.
    height, width = (-(-side // stride) * stride for side in size)
    parameters, operations = _costs(module, (height, width))
    public = encoder.pretrained
    return {
        "name": name,
        "parameters": parameters,
        "output_strides": encoder.output_strides,
        "multiply_adds": operations,
        "mean": encoder.mean,
        "std": encoder.std,
        "weights": {"repository": public.repository, "revision": public.revision} if public else None,
    }


def _costs(module: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Returns a network's number of parameters, and its multiply-adds for one three-channel image."""
    initialized = functools.partial(module.init_with_output, train=False)
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    # Initialization and forward pass in one program: drawing the parameters multiplies no matrices.
    program, (_, variables) = jax.make_jaxpr(initialized, return_shape=True)(key, image)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), multiply_adds(program)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flaxseg.models",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures and encoders to show (default: all)")
    parser.add_argument(
        "--size", nargs=2, type=int, default=(512, 512), metavar=("HEIGHT", "WIDTH"), help="(default: 512 512)"
    )
    parser.add_argument("--classes", type=int, default=2, metavar="N", help="classes of the networks (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    height, width = arguments.size
    for option, value in (("--size", height), ("--size", width), ("--classes", arguments.classes)):
        check_integer(option, value, 1)
    names = _selected(arguments.names)
    row_functions: dict[str, Callable[[str], dict[str, Any]]] = {
        "architectures": functools.partial(architecture_row, size=(height, width), classes=arguments.classes),
        "encoders": functools.partial(encoder_row, size=(height, width)),
    }
    # `disable=None` shows the bar on a terminal only.
    with tqdm(total=sum(map(len, names.values())), unit="network", leave=False, disable=None) as bar:
        tables = {kind: _with_progress(bar, map(row_functions[kind], names[kind])) for kind in row_functions}
        if arguments.json:
            about = {"height": height, "width": width, "channels": 3, "classes": arguments.classes}
            bar.write(json.dumps(about | {kind: list(rows) for kind, rows in tables.items()}, indent=1))
            return
        bar.write(f"for an image of {height} x {width} x 3 and {arguments.classes} classes; GMACs are multiply-adds")
        for kind, columns in (("architectures", _ARCHITECTURES), ("encoders", _ENCODERS)):
            for number, row in enumerate(tables[kind]):
                if number == 0:
                    bar.write("\n" + _line((f"{title:{form}}" for title, form, _ in columns)))
                bar.write(_line(f"{text(row):{form}}" for _, form, text in columns))
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


def _line(cells: Iterator[str]) -> str:
    return "  ".join(cells).rstrip()


def _joined(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
