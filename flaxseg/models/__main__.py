"""Lists the networks and encoders with what they cost: `python -m flaxseg.models`."""

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

from flaxseg.errors import ConfigError, FlaxsegError, did_you_mean
from flaxseg.models import MODELS
from flaxseg.models.arguments import check_integer
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.flops import multiply_adds

DESCRIPTION = """\
Prints a table of all architectures, each with its default options, and one of all encoders.

  parameters  in millions: of the whole network, or of the encoder alone
  stride      what the picture's sides are padded to a multiple of
  strides     what `output_stride` of an encoder can be, for networks that have this option; GMACs are at the last
  GMACs       thousands of millions of multiply-adds in the convolutions and matrix products for one picture, bilinear
              resizing included; FLOPs are twice as many
  mean / std  what pictures with values 0..255 are normalized by, as they were for the public weights
  weights     what pretrained = "imagenet" fetches from the Hugging Face hub: repository@revision

All of it follows from the networks' shapes: nothing is computed, on no device.

exit status: 0; 1, a name or an argument cannot be used; 130, stopped by Ctrl-C.
"""

EPILOG = """\
examples:
  python -m flaxseg.models
  python -m flaxseg.models unet deeplabv3plus resnet50 mit_b2 --size 1024 2048 --classes 19
  python -m flaxseg.models --json > networks.json
        numbers in full, and whole revisions
"""

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str, Callable[[Row], str]]]
"""Title, alignment and width, and text."""

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
    ("mean / std", "<44", lambda row: f"{_numbers(row['mean'])} / {_numbers(row['std'])}"),
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
        # What reads the table has seen enough of it, as `head` has. Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def architecture_row(name: str, *, size: tuple[int, int], classes: int) -> dict[str, Any]:
    """What there is to say of an architecture of MODELS, for pictures of this height and width and three channels."""
    model = MODELS[name](num_classes=classes)
    parameters, operations = _costs(model, size)
    return {
        "name": name,
        "encoder": getattr(model, "encoder_name", None),
        "parameters": parameters,
        "stride": model.stride,  # type: ignore[attr-defined]
        "multiply_adds": operations,
    }


def encoder_row(name: str, *, size: tuple[int, int]) -> dict[str, Any]:
    """What there is to say of an encoder of ENCODERS, for pictures of this height and width and three channels."""
    encoder, module = ENCODERS[name], make_encoder(name, dtype=jnp.float32)
    stride = int(module.output_stride)  # type: ignore[attr-defined]
    # As the networks pad them.
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
    """Parameters of a network, and its multiply-adds for one picture with three channels."""
    initialized = functools.partial(module.init_with_output, train=False)
    key = jax.eval_shape(lambda: jax.random.key(0))
    picture = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    # One pass for both: drawing the parameters multiplies no matrices.
    program, (_, variables) = jax.make_jaxpr(initialized, return_shape=True)(key, picture)
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
    names = _chosen(arguments.names)
    makers: dict[str, Callable[[str], dict[str, Any]]] = {
        "architectures": functools.partial(architecture_row, size=(height, width), classes=arguments.classes),
        "encoders": functools.partial(encoder_row, size=(height, width)),
    }
    # With `disable=None` there is a bar on a terminal only.
    with tqdm(total=sum(map(len, names.values())), unit="network", leave=False, disable=None) as bar:
        tables = {kind: _advancing(bar, map(makers[kind], names[kind])) for kind in makers}
        if arguments.json:
            about = {"height": height, "width": width, "channels": 3, "classes": arguments.classes}
            bar.write(json.dumps(about | {kind: list(rows) for kind, rows in tables.items()}, indent=1))
            return
        bar.write(f"for a picture of {height} x {width} x 3 and {arguments.classes} classes; GMACs are multiply-adds")
        for kind, columns in (("architectures", _ARCHITECTURES), ("encoders", _ENCODERS)):
            for number, row in enumerate(tables[kind]):
                if number == 0:
                    bar.write("\n" + _line((f"{title:{form}}" for title, form, _ in columns)))
                bar.write(_line(f"{text(row):{form}}" for _, form, text in columns))
                sys.stdout.flush()


def _chosen(names: Sequence[str]) -> dict[str, list[str]]:
    """Architectures and encoders among the names, in the tables' order; without any, all of both."""
    known = [*MODELS, *ENCODERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        lines = [f"{name}: no architecture or encoder has this name{did_you_mean(name, known)}" for name in unknown]
        raise ConfigError(
            "\n".join(lines) + f"\nArchitectures are {', '.join(MODELS)}; encoders are {', '.join(ENCODERS)}"
        )
    chosen = set(names or known)
    return {
        "architectures": [name for name in MODELS if name in chosen],
        "encoders": [name for name in ENCODERS if name in chosen],
    }


def _advancing(bar: Any, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, moving the bar with each."""
    for row in rows:
        bar.update()
        yield row


def _line(cells: Iterator[str]) -> str:
    return "  ".join(cells).rstrip()


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
