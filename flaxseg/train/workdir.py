"""A working directory belongs to one experiment: to one configuration, and to the data that it was begun with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from flaxseg.data.types import SegmentationDataset, digest
from flaxseg.errors import CheckpointError

CONFIG_FILE = "config.json"
DATA_FILE = "data.json"
PLACES = ("data.dir", "data.cache", "data.num_threads", "data.prefetch", "data.skip_bad", "mesh")
LENGTHS = ("train.steps", "train.epochs", "train.early_stop", "eval.every")
REPORTS = ("eval.batch_size", "eval.metrics", "checkpoint.every", "checkpoint.keep", "log")
FREE_TO_CHANGE = PLACES + LENGTHS + REPORTS
"""Keys, and groups of keys, that a run may change and go on: where it runs, how long, and how often it reports.

Another length also means another schedule of the learning rate, from the step on at which the run goes on.
"""


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Checks that a working directory is not there yet, or is this experiment's; changes nothing.

    Raises:
      CheckpointError: the directory holds a run of another configuration (each differing key, both values).
    """
    path = workdir / CONFIG_FILE
    if workdir.exists() and not workdir.is_dir():
        raise CheckpointError(f"{workdir}: is a file; give a --workdir that is a directory, or is not there yet")
    if not path.exists():
        return
    before, now = _flat(_read_object(path, "a configuration")), _flat(config.to_dict())
    differing = [
        f"  config.{key}: {before.get(key, 'absent')!r} there, {now.get(key, 'absent')!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _free_to_change(key)
    ]
    if differing:
        raise CheckpointError(
            f"{workdir} holds a run of another experiment:\n" + "\n".join(differing) + "\n"
            "Nothing was changed. Give another --workdir, or the configuration of the run that is there"
        )


def check_data(workdir: Path, splits: Mapping[str, SegmentationDataset]) -> None:
    """Checks that a working directory holds no run of other data; changes nothing.

    The batch of a step depends on which examples there are, and a network's outputs on what its classes are.

    Args:
      workdir: the run's.
      splits: what it would train and evaluate on, by what messages call it.

    Raises:
      CheckpointError: the classes, or the examples of a split, are not those that the run was begun with.
    """
    path = workdir / DATA_FILE
    if not path.exists():
        return
    what, now = "a record of a run's data", _record(splits)
    before = _read_object(path, what)
    if any(not isinstance(before.get(name), dict) or before[name].keys() != now[name].keys() for name in now):
        raise _foreign(path, what)
    differing = _differences(before, now)
    if differing:
        raise CheckpointError(
            f"{workdir} holds a run of other data:\n" + "\n".join(differing) + "\n"
            f"Nothing was changed. Give another --workdir, where --config.model.pretrained={workdir} starts from what "
            "was learnt here, or the data of the run that is there"
        )


def claim_workdir(workdir: Path, config: ConfigDict, splits: Mapping[str, SegmentationDataset]) -> None:
    """Marks a working directory as this experiment's, or finds that it is already.

    Args:
      workdir: made if it is not there; `config.json` and `data.json` are written to it.
      config: what the run will do.
      splits: as of check_data().

    Raises:
      CheckpointError: as check_workdir() and check_data(), and for a directory that cannot be written to.
    """
    check_workdir(workdir, config)
    check_data(workdir, splits)
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _write_whole(workdir / DATA_FILE, json.dumps(_record(splits), indent=2, ensure_ascii=False))
            _write_whole(workdir / CONFIG_FILE, config.to_json(indent=2))
        except OSError as error:
            raise CheckpointError(
                f"{workdir}: cannot be used as the working directory ({error.strerror}: {error.filename}); "
                "give a --workdir that can be written to"
            ) from error


def _record(splits: Mapping[str, SegmentationDataset]) -> dict[str, Any]:
    """Returns what tells one dataset from another, as far as that is known without reading an example."""
    return {
        name: {"classes": list(split.class_names), "examples": len(split.source), "digest": digest(split.source)}
        for name, split in splits.items()
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name, split in now.items():
        there = before[name]
        if there["classes"] != split["classes"]:
            found.append(
                f"  {name}: the classes {', '.join(there['classes'])} there, {', '.join(split['classes'])} now"
            )
        if there["examples"] != split["examples"]:
            found.append(f"  {name}: {there['examples']:,} examples there, {split['examples']:,} now")
        # Of the two layouts of one dataset, only one may tell its examples.
        elif there["digest"] and split["digest"] and there["digest"] != split["digest"]:
            found.append(f"  {name}: {split['examples']:,} examples as there, but not the same ones")
    return found


def _write_whole(path: Path, text: str) -> None:
    """In one go: a run that is killed here, or another process that reads, never meets half a file."""
    whole = path.with_suffix(".json.new")
    whole.write_text(text + "\n", encoding="utf-8")
    whole.replace(path)


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _foreign(path, what)
    return found


def _foreign(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not {what} of flaxseg; nothing was changed. Give another --workdir, or move what is there away"
    )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns full keys with values as JSON keeps them, so that a tuple equals the list it was saved as."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return flat


def _free_to_change(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_TO_CHANGE)
