"""Writes an exported folder: weights, programs, a report of what was checked, and a model card."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from flaxseg.deploy import onnx, safetensors, stablehlo
from flaxseg.deploy.card import model_card
from flaxseg.deploy.export_formats import MIOU_NOTE, ExportOptions, summary, write_format
from flaxseg.deploy.samples import Samples, find_samples
from flaxseg.deploy.saved import SavedModel
from flaxseg.deploy.trained import REPORT, TrainingRecord, read_record
from flaxseg.deploy.weights import TOLERANCES
from flaxseg.errors import ExportError
from flaxseg.inference.description import FILE_NAME as DESCRIPTION
from flaxseg.inference.description import installed_versions

CARD, CONFIG = "README.md", "config.json"

FILES = (safetensors.FILE_NAME, DESCRIPTION, stablehlo.FILE_NAME, onnx.FILE_NAME, REPORT, CARD, CONFIG)
"""The files that an exported folder may hold."""


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
    saved: SavedModel,
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
      saved: from `read_model`.
      folder: created if it does not exist; see `check_output`.
      options: how it is exported.
      data: a folder of images to compare on, or one with the folders `images` and `masks`, to compare the mIoU too.
        None: the samples that the network's run stored, or random images if there are none.
      say: called with a line of text for each file.

    Returns:
      The report, which is also written to the folder as `export.json`.

    Raises:
      ExportError: a format cannot take the network, its outputs differ, or the folder cannot be written.
      DataError: an image of `data` cannot be used.
      ConfigError, ArgumentError: the masks of `data` do not fit the network.
    """
    if "onnx" in options.formats:
        onnx.check_installed()
    folder, record = Path(folder), read_record(saved)
    samples = find_samples(saved, count=options.images, data=data)
    say(f"comparing on {samples}")
    with _new_files(folder) as new, jax.default_device(_cpu()):
        report = _report(options, samples, record)
        for name in dict.fromkeys(("safetensors", *options.formats)):
            say(f"{name}: exporting" + ("" if name in options.formats else " (always written)"))
            report["formats"][name] = write_format(name, saved, options, new, samples)
            say(f"{name}: {summary(report['formats'][name])}")
        if any(entry.get("miou_before") is not None for entry in report["formats"].values()):
            say(MIOU_NOTE)
        (new / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if record.config:
            (new / CONFIG).write_text(json.dumps(_public(record.config), indent=2) + "\n", encoding="utf-8")
        (new / CARD).write_text(
            model_card(saved.description, record, report, license=options.license), encoding="utf-8"
        )
    return report


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration without the paths of the computer that trained the network."""
    places = {"data": {"dir": ""}, "model": {"pretrained": ""}}
    return {
        section: {**values, **{key: value for key, value in places.get(section, {}).items() if key in values}}
        if isinstance(values, Mapping)
        else values
        for section, values in config.items()
    }


def _cpu() -> jax.Device:
    """Returns the device that outputs are compared on, since ONNX Runtime has no other here."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise ExportError(
            f"JAX_PLATFORMS={platforms}: outputs are compared on the CPU; add it: JAX_PLATFORMS={platforms},cpu"
        ) from error


def _report(options: ExportOptions, samples: Samples, record: TrainingRecord) -> dict[str, Any]:
    return {
        "input": {
            "name": onnx.INPUT,
            "layout": "float32[batch, height, width, channels]",
            "values": "0..255" if options.normalized else "(image - mean) / std",
        },
        "weights": options.weights,
        "tolerance": TOLERANCES[options.weights],
        "compared_on": str(samples),
        "versions": installed_versions(),
        "training": record.to_json(),
        "formats": {},
    }


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
