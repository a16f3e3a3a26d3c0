"""Writes an exported folder: weights, programs, a report of what was checked, and a model card."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.deploy import onnx, safetensors, stablehlo
from flaxseg.deploy.card import model_card
from flaxseg.deploy.comparison import Comparison, compare
from flaxseg.deploy.program import OUTPUTS, Program, Sizes, half_precision, make_program, stride_of
from flaxseg.deploy.samples import sample_batches, sample_images
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.trained import TrainedNetwork
from flaxseg.errors import ExportError, check_choice, check_integer
from flaxseg.inference.description import FILE_NAME as DESCRIPTION
from flaxseg.inference.description import installed_versions
from flaxseg.inference.forward import normalize
from flaxseg.models.protocol import Variables

FORMATS = ("safetensors", "stablehlo", "onnx")
WEIGHTS = ("float32", "float16")
REPORT, CARD, CONFIG = "export.json", "README.md", "config.json"

FILES = (safetensors.FILE_NAME, DESCRIPTION, stablehlo.FILE_NAME, onnx.FILE_NAME, REPORT, CARD, CONFIG)
"""The files that an exported folder may hold."""

TOLERANCES = {"float32": 1e-4, "float16": 2e-2}
"""The largest difference from the network's outputs that is accepted, relative to its largest logit."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How a network is exported.

    Attributes:
      formats: members of FORMATS; the weights as safetensors are always written.
      output: what programs return: "logits", "probabilities" or "classes".
      normalized: programs take images with values 0..255; False: they take `(image - mean) / std`.
      weights: "float32", or "float16" for files of half the size; programs compute in float32 either way.
      image_size: height and width to fix in the programs; None: any, where the format allows it.
      images: the number of images that each file is checked on.
      license: the license of the weights for the model card, such as "cc-by-4.0"; None: not stated.
    """

    formats: tuple[str, ...] = ("safetensors",)
    output: str = "logits"
    normalized: bool = True
    weights: str = "float32"
    image_size: tuple[int, int] | None = None
    images: int = 20
    license: str | None = None

    def __post_init__(self) -> None:
        for name in self.formats:
            check_choice("format", name, FORMATS)
        check_choice("output", self.output, OUTPUTS)
        check_choice("weights", self.weights, WEIGHTS)
        check_integer("images", self.images, 1)
        for length in self.image_size or ():
            check_integer("image_size", length, 1)


def check_output(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Checks that a network can be exported to a folder; changes nothing.

    Args:
      folder: where to export to.
      source: the run or folder that the network is read from.
      overwrite: whether the files of an earlier export may be replaced.

    Raises:
      ExportError: it cannot.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"--output={folder}: is a file; give a folder")
    if folder.resolve() == source.resolve() or (folder / "checkpoints").exists():
        raise ExportError(f"--output={folder}: is a run, or the folder that the network is read from; give another one")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ExportError(
            f"--output={folder}: already holds {', '.join(there)}; give another folder, or --overwrite to replace them"
        )


def export_network(
    network: TrainedNetwork,
    folder: str | Path,
    options: ExportOptions,
    *,
    data: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Exports a network to a folder; files of an earlier export are replaced, other files in it are left alone.

    Each file is loaded by its own runtime, on the CPU, and compared with the network, before any of them is moved to
    the folder.

    Args:
      network: from `read_trained`.
      folder: created if it does not exist; see `check_output`.
      options: how it is exported.
      data: a folder of images to compare on; None: random images.
      say: called with a line of text for each file.

    Returns:
      The report, which is also written to the folder as `export.json`.

    Raises:
      ExportError: a format cannot take the network, its outputs differ, or the folder cannot be written.
      DataError: an image of `data` cannot be used.
    """
    folder = Path(folder)
    images = sample_images(network.description, count=options.images, folder=data)
    with _new_files(folder) as new, jax.default_device(_cpu()):
        report = _report(options, images, data)
        for name in dict.fromkeys(("safetensors", *options.formats)):
            say(f"{name}: exporting")
            report["formats"][name] = _export(name, network, options, new, images)
            say(f"{name}: {_summary(report['formats'][name])}")
        (new / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if network.config:
            (new / CONFIG).write_text(json.dumps(_public(network.config), indent=2) + "\n", encoding="utf-8")
        (new / CARD).write_text(model_card(network, report, license=options.license), encoding="utf-8")
    return report


def _export(
    name: str, network: TrainedNetwork, options: ExportOptions, folder: Path, images: list[np.ndarray]
) -> dict[str, Any]:
    """Writes the file of one format, compares what it computes, and returns its part of the report."""
    # Exported programs compute in float32, whatever the network was trained in.
    description = dataclasses.replace(network.description, precision="float32")
    model: Any = description.build()
    variables = half_precision(network.variables) if options.weights == "float16" else network.variables
    channels, stride, size = description.channels, stride_of(model), options.image_size or description.image_size
    output, normalized = options.output, options.normalized
    program = make_program(model, variables, normalized=normalized, output=output)
    exported: Program
    if name == "safetensors":
        safetensors.write_weights(folder, variables, network.description)
        read = read_model(folder).variables
        exported = functools.partial(_logits_fn(model, normalized=True), read)
        file, sizes, output, normalized = safetensors.FILE_NAME, Sizes(1, 1), "logits", True
    elif name == "stablehlo":
        data, sizes = stablehlo.stablehlo_program(
            program, channels=channels, stride=stride, fixed=options.image_size, default=size
        )
        file = stablehlo.FILE_NAME
        (folder / file).write_bytes(data)
        exported = jax.jit(stablehlo.read_stablehlo(folder / file))
    else:
        data, sizes = onnx.onnx_program(program, channels=channels, stride=stride, size=size, output=output)
        file = onnx.FILE_NAME
        (folder / file).write_bytes(data)
        exported = onnx.read_onnx(folder / file)
    reference = functools.partial(_logits_fn(model, normalized=normalized), network.variables)
    batches = sample_batches(images, sizes, size)
    prepared = batches if normalized else (np.asarray(normalize(jnp.asarray(batch), model)) for batch in batches)
    comparison = compare(reference, exported, prepared, output=output)
    comparison.check(f"{name} ({file})", tolerance=TOLERANCES[options.weights])
    return {
        "file": file,
        "bytes": (folder / file).stat().st_size,
        "output": output,
        "image_size": str(sizes) if name != "safetensors" else "any",
        **comparison.to_json(),
    }


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration without the paths of the computer that trained the network."""
    places = {"data": {"dir": ""}, "model": {"pretrained": ""}}
    return {
        section: {**values, **{key: value for key, value in places.get(section, {}).items() if key in values}}
        if isinstance(values, Mapping)
        else values
        for section, values in config.items()
    }


@functools.lru_cache(maxsize=2)
def _logits_fn(model: Any, *, normalized: bool) -> Callable[[Variables, Any], jax.Array]:
    """Returns the function that computes the network's own logits; it is compiled once for all formats."""

    def logits(variables: Variables, image: jax.Array) -> jax.Array:
        return make_program(model, variables, normalized=normalized, output="logits")(image)

    return jax.jit(logits)


def _cpu() -> jax.Device:
    """Returns the device that outputs are compared on, since ONNX Runtime has no other here."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise ExportError(
            f"JAX_PLATFORMS={platforms}: outputs are compared on the CPU; add it: JAX_PLATFORMS={platforms},cpu"
        ) from error


def _report(options: ExportOptions, images: list[np.ndarray], data: str | Path | None) -> dict[str, Any]:
    source = "random images" if data is None else f"images of the folder {Path(data).resolve().name}"
    return {
        "input": {
            "name": onnx.INPUT,
            "layout": "float32[batch, height, width, channels]",
            "values": "0..255" if options.normalized else "(image - mean) / std",
        },
        "weights": options.weights,
        "compared_on": f"{len(images)} {source}",
        "versions": installed_versions(),
        "formats": {},
    }


def _summary(entry: dict[str, Any]) -> str:
    comparison = Comparison(**{field.name: entry[field.name] for field in dataclasses.fields(Comparison)})
    return (
        f"{entry['file']} ({entry['bytes'] / 1e6:.1f} MB) for images of size {entry['image_size']}; on "
        f"{comparison.images} images, the largest difference is {comparison.largest_difference:.2g} (largest logit "
        f"{comparison.largest_logit:.3g}), and {comparison.differing_pixels:,} of {comparison.pixels:,} pixels differ"
    )


@contextlib.contextmanager
def _new_files(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, whose files replace those of an earlier export in `folder` after the `with` block.

    After an error nothing in `folder` has changed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield new
            folder.mkdir(exist_ok=True)
            for name in FILES:
                if (new / name).exists():
                    (new / name).replace(folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise ExportError(
            f"--output={folder}: cannot be written ({error.strerror}: {error.filename}); give a folder that can be "
            "written to, on a disk with enough space"
        ) from error
