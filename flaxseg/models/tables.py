"""Tables of the networks and encoders with their costs, as text and as Markdown."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models import MODELS, Architecture, build_model
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.flops import multiply_adds

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str, Callable[[Row], str]]]
"""Title, alignment and width, and a function that returns the text."""

_COSTS: Columns = (
    ("parameters", ">10", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
    ("GMACs", ">9", lambda row: f"{row['multiply_adds'] / 1e9:.2f}"),
)

TEXT_COLUMNS: Mapping[str, Columns] = {
    "architectures": (
        ("architecture", f"<{max(map(len, MODELS))}", lambda row: row["name"]),
        *_COSTS,
        ("stride", ">8", lambda row: str(row["stride"])),
        ("encoder", "<", lambda row: row["encoder"] or "none"),
    ),
    "encoders": (
        ("encoder", f"<{max(map(len, ENCODERS))}", lambda row: row["name"]),
        *_COSTS,
        ("strides", ">8", lambda row: ",".join(map(str, row["output_strides"]))),
        ("mean / std", "<44", lambda row: f"{_joined(row['mean'])} / {_joined(row['std'])}"),
        (
            "weights",
            "<",
            lambda row: "{repository}@{revision:.7}".format(**row["weights"]) if row["weights"] else "none",
        ),
    ),
}
"""The columns of each table as text."""

_MARKDOWN_COSTS: Columns = (
    ("parameters", ">", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
    ("GFLOPs", ">", lambda row: f"{2 * row['multiply_adds'] / 1e9:.2f}"),
)

MARKDOWN_COLUMNS: Mapping[str, Columns] = {
    "architectures": (
        ("architecture", "<", lambda row: f"`{row['name']}`"),
        *_MARKDOWN_COSTS,
        ("stride", ">", lambda row: str(row["stride"])),
        ("encoder", "<", lambda row: f"`{row['encoder']}`" if row["encoder"] else "none"),
    ),
    "encoders": (
        ("encoder", "<", lambda row: f"`{row['name']}`"),
        *_MARKDOWN_COSTS,
        ("output strides", "<", lambda row: ", ".join(map(str, row["output_strides"]))),
        ("weights", "<", lambda row: _link(row["weights"]) if row["weights"] else "none"),
        ("license of the weights", "<", lambda row: _license(row["weights"]) if row["weights"] else "none"),
    ),
}
"""The columns of each table as Markdown; FLOPs are twice the multiply-adds."""


def architecture_row(name: str, *, size: tuple[int, int], classes: int, encoder: str = "") -> dict[str, Any]:
    """Returns the facts about a network of MODELS, for three-channel images of this height and width.

    Args:
      name: a name of MODELS.
      size: height and width.
      classes: the number of classes.
      encoder: the encoder, if the network can have another one than its own; "" for its own.

    Raises:
      ArgumentError: the network cannot have this encoder.
    """
    options = {"encoder": encoder} if encoder and isinstance(MODELS[name], Architecture) else {}
    model = build_model(name, num_classes=classes, **options)
    parameters, operations = costs(model, size)
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
    parameters, operations = costs(module, (height, width))
    public = encoder.pretrained
    return {
        "name": name,
        "parameters": parameters,
        "output_strides": encoder.output_strides,
        "multiply_adds": operations,
        "mean": encoder.mean,
        "std": encoder.std,
        "weights": dataclasses.asdict(public) if public else None,
    }


def costs(module: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Returns a network's number of parameters, and its multiply-adds for one three-channel image."""
    initialized = functools.partial(module.init_with_output, train=False)
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    # Initialization and forward pass in one program: drawing the parameters multiplies no matrices.
    program, (_, variables) = jax.make_jaxpr(initialized, return_shape=True)(key, image)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), multiply_adds(program)


def text_header(columns: Columns) -> str:
    """Returns the line with the titles of the columns."""
    return _line(f"{title:{form}}" for title, form, _ in columns)


def text_line(columns: Columns, row: Row) -> str:
    """Returns a row as one line of aligned text."""
    return _line(f"{text(row):{form}}" for _, form, text in columns)


def markdown_table(columns: Columns, rows: Iterable[Row]) -> str:
    """Returns a table in Markdown, of one line per row and without a newline at the end."""
    lines = [
        [title for title, _, _ in columns],
        ["---:" if form.startswith(">") else "---" for _, form, _ in columns],
        *([text(row) for _, _, text in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _license(weights: Row) -> str:
    return str(weights["license"] or "see repository")


def _link(weights: Row) -> str:
    return f"[{weights['repository']}](https://huggingface.co/{weights['repository']})"


def _line(cells: Iterator[str]) -> str:
    return "  ".join(cells).rstrip()


def _joined(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
