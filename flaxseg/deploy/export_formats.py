"""Writes a network in one format, and accepts the file only if it computes what the network does."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flaxseg.deploy import onnx, safetensors, stablehlo
from flaxseg.deploy.comparison import Comparison, compare
from flaxseg.deploy.program import OUTPUTS, Program, Sizes, make_program, stride_of
from flaxseg.deploy.samples import Samples, sample_batches
from flaxseg.deploy.saved import SavedModel, read_model
from flaxseg.deploy.weights import TOLERANCES, WEIGHTS, stored_weights
from flaxseg.errors import ExportError, check_choice, check_integer
from flaxseg.inference.folding import fold_batch_norm
from flaxseg.inference.forward import normalize
from flaxseg.models.protocol import Variables

FORMATS = ("safetensors", "stablehlo", "onnx")

_SMALLEST = (1, 8)
"""Smallest heights and widths in strides: a few networks cannot be traced for a single stride."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How a network is exported.

    Attributes:
      formats: members of FORMATS; the weights as safetensors are always written.
      output: what programs return: "logits", "probabilities" or "classes".
      normalized: programs take images with values 0..255; False: they take `(image - mean) / std`.
      weights: a member of `weights.WEIGHTS`, the type that weights are stored in; programs compute in float32.
      image_size: height and width to fix in the programs; None: any, where the format allows it.
      images: the largest number of images that each file is checked on.
      license: the license of the weights for the model card, such as "cc-by-4.0"; None: not stated.
      fold: fold batch normalization into the convolutions of programs (`fold_batch_norm`), which runs faster where the
        runtime does not do so itself, and changes rounding.
    """

    formats: tuple[str, ...] = ("safetensors",)
    output: str = "logits"
    normalized: bool = True
    weights: str = "float32"
    image_size: tuple[int, int] | None = None
    images: int = 20
    license: str | None = None
    fold: bool = True

    def __post_init__(self) -> None:
        for name in self.formats:
            check_choice("format", name, FORMATS)
        check_choice("output", self.output, OUTPUTS)
        check_choice("weights", self.weights, WEIGHTS)
        check_integer("images", self.images, 1)
        for length in self.image_size or ():
            check_integer("image_size", length, 1)


MIOU_NOTE = (
    "each mIoU only compares the network with the file: images are cropped, padded or resized to fit the file;\n"
    "`flaxseg evaluate` has the score of the network"
)
"""What users should know about the mIoU in `summary`."""


def write_format(
    name: str, saved: SavedModel, options: ExportOptions, folder: Path, samples: Samples
) -> dict[str, Any]:
    """Writes the file of one format to a folder, and compares what it computes with the network.

    A network that cannot be written for images of any size is written for a single one.

    Args:
      name: a member of FORMATS.
      saved: the network.
      options: how it is exported.
      folder: an existing folder.
      samples: the images to compare on.

    Returns:
      The format's part of the report.

    Raises:
      ExportError: the format cannot take the network, a package is missing, or the outputs differ.
    """
    # Exported programs compute in float32, whatever the network was trained in.
    model: Any = dataclasses.replace(saved.description, precision="float32").build()
    if name == "safetensors":
        return _write_weights(saved, stored_weights(saved.variables, options.weights), model, options, folder, samples)
    program = _program(saved, model, options)
    problem: ExportError | None = None
    for sizes in _candidates(options, stride_of(model), saved.description.image_size):
        try:
            file, exported = _write_program(name, program, sizes, saved.description.channels, options, folder)
            compared = functools.partial(_compare, name, exported, model, saved, output=options.output, options=options)
            comparison = compared(samples, sizes)
            comparison.check(f"{name} ({file.name})", tolerance=TOLERANCES[options.weights])
            if not sizes.fixed:
                one, smallest = dataclasses.replace(samples, count=1), (sizes.smallest, sizes.smallest)
                at_smallest = compared(one, dataclasses.replace(sizes, fixed=smallest))
                at_smallest.check(f"{name} ({file.name})", tolerance=TOLERANCES[options.weights])
        except ExportError as error:
            if sizes.fixed:
                raise
            problem = problem or error
            continue
        return _entry(file, options.output, str(sizes), comparison, problem if sizes.fixed else None)
    raise AssertionError("the last candidate is a fixed size, which is written or raises")


def summary(entry: dict[str, Any]) -> str:
    """Returns the part of a report that `write_format` returned as text for the terminal."""
    text = (
        f"{entry['file']} ({entry['bytes'] / 1e6:.1f} MB), height and width of images: {entry['image_size']}; on "
        f"{entry['images']} images, the largest difference is {entry['largest_difference']:.2g} (largest logit "
        f"{entry['largest_logit']:.3g}), and {entry['differing_pixels']:,} of {entry['pixels']:,} pixels differ"
    )
    if entry.get("miou_before") is not None:
        text += f"\n  mIoU of the network {entry['miou_before']:.4f}, of the file {entry['miou_after']:.4f}"
    return text + (f"\n  one size only: {entry['note']}" if "note" in entry else "")


def _program(saved: SavedModel, model: Any, options: ExportOptions) -> Program:
    variables: Variables = saved.variables
    if options.fold:
        model, variables = fold_batch_norm(model, variables, saved.description.channels)
    return make_program(
        model,
        stored_weights(variables, options.weights),
        normalized=options.normalized,
        output=options.output,
        temperature=saved.description.temperature,
    )


def _candidates(options: ExportOptions, stride: int, default: tuple[int, int]) -> Iterator[Sizes]:
    """Yields the image sizes to try, in order; the last one is fixed."""
    for smallest in () if options.image_size else _SMALLEST:
        yield Sizes(stride, smallest * stride)
    size = options.image_size or default
    yield Sizes(stride, min(size), fixed=size)


def _write_program(
    name: str, program: Program, sizes: Sizes, channels: int, options: ExportOptions, folder: Path
) -> tuple[Path, Program]:
    """Writes a program, and returns its file and the program that is read from it."""
    if name == "stablehlo":
        file = folder / stablehlo.FILE_NAME
        file.write_bytes(stablehlo.stablehlo_program(program, channels=channels, sizes=sizes))
        return file, jax.jit(stablehlo.read_stablehlo(file))
    file = folder / onnx.FILE_NAME
    file.write_bytes(onnx.onnx_program(program, channels=channels, sizes=sizes, output=options.output))
    return file, onnx.read_onnx(file)


def _write_weights(
    saved: SavedModel, variables: Variables, model: Any, options: ExportOptions, folder: Path, samples: Samples
) -> dict[str, Any]:
    safetensors.write_weights(folder, variables, saved.description)
    exported = functools.partial(_logits_fn(model, normalized=True), read_model(folder).variables)
    weights_only = dataclasses.replace(options, normalized=True)
    # Those of most programs, so that all files have the same mIoU.
    sizes = Sizes(stride_of(model), stride_of(model))
    comparison = _compare("safetensors", exported, model, saved, samples, sizes, output="logits", options=weights_only)
    file = folder / safetensors.FILE_NAME
    comparison.check(f"safetensors ({file.name})", tolerance=TOLERANCES[options.weights])
    return _entry(file, "logits", "any", comparison, None)


def _compare(
    name: str,
    exported: Program,
    model: Any,
    saved: SavedModel,
    samples: Samples,
    sizes: Sizes,
    *,
    output: str,
    options: ExportOptions,
) -> Comparison:
    logits = functools.partial(_logits_fn(model, normalized=options.normalized), saved.variables)
    # Of these, the softmax is what a program with probabilities returns; the classes are the same.
    temperature = saved.description.temperature if output == "probabilities" else 1.0
    batches = sample_batches(samples, sizes, saved)
    if not options.normalized:
        batches = ((np.asarray(normalize(jnp.asarray(images), model)), label) for images, label in batches)
    with tqdm(total=samples.count, desc=f"{name}: comparing", unit="image", disable=None, leave=False) as bar:
        return compare(lambda image: logits(image) / temperature, exported, batches, output=output, done=bar.update)


def _entry(
    file: Path, output: str, image_size: str, comparison: Comparison, problem: ExportError | None
) -> dict[str, Any]:
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "output": output,
        "image_size": image_size,
        **({"note": str(problem)} if problem else {}),
        **comparison.to_json(),
    }


@functools.lru_cache(maxsize=2)
def _logits_fn(model: Any, *, normalized: bool) -> Callable[[Variables, Any], jax.Array]:
    """Returns the function that computes the network's own logits; it is compiled once for all formats."""

    def logits(variables: Variables, image: jax.Array) -> jax.Array:
        return make_program(model, variables, normalized=normalized, output="logits")(image)

    return jax.jit(logits)
