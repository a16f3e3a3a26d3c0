"""A run's working directory, which belongs to one configuration and one dataset."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util
from ml_collections import ConfigDict

from flaxseg.config.schema import KEYS
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import CheckpointError, shown
from flaxseg.inference.description import FILE_NAME, ModelDescription
from flaxseg.models.pretrained.json_text import parse_json

PLACES = ("data.dir", "data.cache", "data.num_threads", "data.prefetch", "data.skip_bad", "mesh", "train.remat")
LENGTHS = ("train.steps", "train.epochs", "train.early_stop", "eval.every")
FAILURES = ("train.non_finite", "train.non_finite_limit", "train.stall_minutes", "checkpoint.retry_minutes")
REPORTS = (
    "eval.batch_size", "eval.metrics", "checkpoint.every", "checkpoint.keep", "log", "train.callbacks",
    "train.callback_options",
)  # fmt: skip
CONSENT = ("model.accept_license",)
FREE_TO_CHANGE = PLACES + LENGTHS + FAILURES + REPORTS + CONSENT
"""Keys, and groups of keys, that may change when a run is resumed: where it runs, how long, what it does
about failures, what it reports, and what the user consents to.

Changing the length of a run also changes its learning-rate schedule, from the step at which it is resumed.
"""

_OF_ANYONE = ("*.log", "*.txt", "*.out", "*.err")
"""Files that may be in the directory of a new run: what a shell or a scheduler writes of its output."""

_UNFINISHED = "data.json.new"
"""The only file of a run that was killed while it wrote its first one."""

SAMPLES = "samples.npz"
"""The file of a few images and labels of the evaluation set; see `flaxseg.data.stored_samples`."""


class Workdir:
    """The files of a run: `config.json`, `data.json`, `model.json`, `class_weights.json`, `samples.npz`, its products.

    A run produces `checkpoints/`, `images/`, `metrics.jsonl`, event files, and `non_finite/` if a step is not finite.

    Args:
      path: the directory; `claim` creates it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.class_weights = self.path / "class_weights.json"
        self.samples = self.path / SAMPLES
        self.metrics = self.path / "metrics.jsonl"
        self.non_finite = self.path / "non_finite"
        self._config = self.path / "config.json"
        self._data = self.path / "data.json"
        self._model = self.path / FILE_NAME

    def has_checkpoint(self) -> bool:
        """Returns whether there is a checkpoint to resume from."""
        return any(path.name.isdigit() for path in self.checkpoints.glob("*"))

    def has_run(self) -> bool:
        """Returns whether the directory contains a run."""
        return self._config.exists() or self._data.exists()

    def check_contents(self) -> None:
        """Checks that the directory is empty, does not exist yet or contains a run; changes nothing.

        Hidden files do not count, nor do the files that a shell or scheduler redirects the output of a run to.

        Raises:
          CheckpointError: it contains anything else; the message names it.
        """
        try:
            if not self.path.exists():
                return
            self._check_kinds()
            if self.has_run():
                return  # Whether they are those of a run is checked when they are read.
            foreign = sorted(entry.name for entry in self.path.iterdir() if not _may_be_in_a_new_run(entry))
        except CheckpointError:
            raise
        except (OSError, ValueError) as error:
            raise self.unusable(error) from error
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise CheckpointError(
                f"{self.path}: is not empty and contains no run of flaxseg, but {', '.join(foreign[:3])}{more}; "
                "nothing was changed. Give a --workdir that is empty or does not exist"
            )

    def unusable(self, error: OSError | ValueError) -> CheckpointError:
        """Returns the error about a directory that cannot be read, created or written to."""
        if isinstance(error, OSError):
            reason = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        else:
            reason = str(error)  # A path with a NUL character, or one that cannot be encoded.
        path = str(self.path)
        return CheckpointError(
            f"{path if path.isprintable() else repr(path)}: cannot be used as the working directory ({reason}); give a "
            "--workdir that can be written to"
        )

    def _check_kinds(self) -> None:
        """Checks that no directory is where a file belongs, and the reverse."""
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path}: is a file; give a --workdir that is a directory or does not exist")
        files = (self._config, self._data, self._model, self.class_weights, self.samples, self.metrics)
        wrong = [(path, "directory", "file") for path in files if path.is_dir()]
        directories = (self.checkpoints, self.path / "images", self.non_finite)
        wrong += [(path, "file", "directory") for path in directories if path.exists() and not path.is_dir()]
        for path, found, expected in wrong:
            raise CheckpointError(
                f"{path}: is a {found}, but a run has a {expected} of this name; nothing was changed. Move it away, or "
                "give another --workdir"
            )

    def check_config(self, config: ConfigDict) -> None:
        """Checks that the directory contains no run of another configuration; changes nothing.

        Raises:
          CheckpointError: it contains a run of another configuration; the message lists each differing key.
        """
        if not self._config.exists():
            return
        # As JSON, because a tuple is stored as a list.
        there, now = _read_object(self._config, "a configuration"), json.loads(config.to_json())
        there, now = (traverse_util.flatten_dict(values, sep=".") for values in (there, now))
        # A configuration of an older version lacks newer keys, whose defaults do what that version did.
        defaults = json.loads(json.dumps({name: key.default for name, key in KEYS.items() if not key.is_group}))
        there = {name: value for name, value in defaults.items() if name in now} | there
        differing = [
            f"  config.{key}: {_shown_at(there, key)} in the directory, {_shown_at(now, key)} in this run"
            for key in sorted(there.keys() | now.keys())
            if there.get(key) != now.get(key) and not _free_to_change(key)
        ]
        if differing:
            raise CheckpointError(
                f"{self.path} contains a run of another configuration:\n" + "\n".join(differing) + "\n"
                "Nothing was changed. Give another --workdir, where "
                f"--config.model.pretrained={self.path} starts from the weights learned here, or the configuration of "
                f"the run that is there, as in --config={self.path}"
            )

    def check_keep(self, keep: int) -> None:
        """Checks that a run that saves no checkpoints has none to resume from; changes nothing.

        Args:
          keep: number of checkpoints to keep; 0: none is saved.

        Raises:
          CheckpointError: none is saved, and there are some.
        """
        if keep == 0 and self.has_checkpoint():
            raise CheckpointError(
                f"{self.checkpoints}: has checkpoints of an earlier part of this run, but config.checkpoint.keep = 0; "
                "use at least 1, or give another --workdir. Nothing was changed"
            )

    def check_data(self, splits: Mapping[str, SegmentationDataset]) -> None:
        """Checks that the directory contains no run of other data; changes nothing.

        The batch of a step depends on the examples, and the outputs of a network on the classes.

        Args:
          splits: the datasets that the run trains and evaluates on, by the names that messages use.

        Raises:
          CheckpointError: the classes, or the examples of a split, are not those that the run began with.
        """
        if not self._data.exists():
            return
        there, now = _read_object(self._data, "a record of a run's data"), _record(splits)
        if any(not isinstance(there.get(name), dict) or there[name].keys() != now[name].keys() for name in now):
            raise _foreign(self._data, "a record of a run's data")
        differing = _differences(there, now)
        if differing:
            raise CheckpointError(
                f"{self.path} contains a run of other data:\n" + "\n".join(differing) + "\n"
                f"Nothing was changed. Give another --workdir, where --config.model.pretrained={self.path} starts from "
                "the weights learned here, or the data of the run that is there"
            )

    def claim(
        self, config: ConfigDict, splits: Mapping[str, SegmentationDataset], description: ModelDescription
    ) -> None:
        """Creates the directory and records the run's configuration, data and network in it.

        Args:
          config: the configuration, checked before.
          splits: the datasets, checked before.
          description: describes the network, so that others can load it; also written to an older run without one.

        Raises:
          CheckpointError: the directory cannot be written to.
        """
        if jax.process_index() != 0:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_atomically(self._data, json.dumps(_record(splits), indent=2, ensure_ascii=False))
            _write_atomically(self._model, description.to_json())
            _write_atomically(self._config, config.to_json(indent=2))
        except OSError as error:
            raise self.unusable(error) from error


def _may_be_in_a_new_run(entry: Path) -> bool:
    if entry.name.startswith(".") or entry.name in ("lost+found", _UNFINISHED):
        return True
    return entry.is_file() and any(entry.match(pattern) for pattern in _OF_ANYONE)


def _shown_at(values: Mapping[str, Any], key: str) -> str:
    return shown(values[key]) if key in values else "not set"


def _record(splits: Mapping[str, SegmentationDataset]) -> dict[str, Any]:
    """Returns what distinguishes datasets and is known without reading an example."""
    return {
        name: {"classes": list(split.class_names), "examples": len(split.source), "digest": split.source.digest()}
        for name, split in splits.items()
    }


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name, split in now.items():
        before = there[name]
        if before["classes"] != split["classes"]:
            found.append(
                f"  {name}: the classes {', '.join(before['classes'])} in the directory, {', '.join(split['classes'])} "
                "in this run"
            )
        if before["examples"] != split["examples"]:
            found.append(
                f"  {name}: {before['examples']:,} examples in the directory, {split['examples']:,} in this run"
            )
        # Some layouts of a dataset may have no digest.
        elif before["digest"] and split["digest"] and before["digest"] != split["digest"]:
            found.append(
                f"  {name}: as many examples ({split['examples']:,}), but not the same, or with masks that are read in "
                "another way"
            )
    return found


def _write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a killed run never leaves, and another process never reads, an incomplete one."""
    new = path.with_suffix(".json.new")
    new.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    new.replace(path)


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _foreign(path, what)
    return found


def _foreign(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not {what} of flaxseg; nothing was changed. Give another --workdir, or move what is there away"
    )


def _free_to_change(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_TO_CHANGE)
