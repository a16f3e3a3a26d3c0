"""The saves of a run's checkpoints, each of which is tried once; `checkpoints.py` decides when to try again."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from flaxseg.models.pretrained.array_digests import ArrayDigests
from flaxseg.models.pretrained.manifest import write_manifest
from flaxseg.train import checkpoint_files as files
from flaxseg.train.background_save import BackgroundSave, Manager
from flaxseg.train.checkpoint_damage import open_manager
from flaxseg.train.checkpoint_scores import CheckpointScores
from flaxseg.train.orbax_errors import collect_failed_save
from flaxseg.train.processes import first_message
from flaxseg.train.storage import reason, storage_problem, with_free_space

_METADATA_BYTES, _METADATA_BYTES_PER_ARRAY = 65536, 2048
"""About what a checkpoint takes besides its arrays."""


class CheckpointSaves:
    """Saves states in the background, one at a time; old checkpoints are deleted when a new one is complete.

    With several processes, all of them have to call each method together.

    Args:
      directory: contains a folder for each step; created if it does not exist.
      scores: the scores of the checkpoints, which receives those of each state that is saved.
      keep: number of latest checkpoints to keep.

    Attributes:
      manager: Orbax's manager of the directory; another one after a save has failed.
    """

    def __init__(self, directory: Path, scores: CheckpointScores, *, keep: int) -> None:
        self._directory = directory
        self._scores = scores
        self._keep = keep
        self._is_first_manager, self._manager_has_failed = True, False
        # Until the first save has succeeded, and after one that has failed.
        self._reserves_room = True
        self._save: BackgroundSave | None = None
        self._bytes = 0
        self.manager = open_manager(directory, scores)

    @property
    def step(self) -> int | None:
        """The step of the save that has begun and is not settled; None if there is none."""
        return self._save.step if self._save else None

    def begin(self, step: int, state: Any, scores: Mapping[str, float], counts: Mapping[str, int]) -> str:
        """Begins to save a state; returns why that is not possible, or "".

        Args:
          step: its step.
          state: any tree of arrays.
          scores: the scores of its evaluation; empty if it was not evaluated.
          counts: see `Manifest`.
        """
        leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes")]
        metadata_bytes = _METADATA_BYTES + _METADATA_BYTES_PER_ARRAY * len(leaves)
        self._bytes = sum(leaf.nbytes for leaf in leaves) + metadata_bytes
        if problem := first_message(self._problem()):
            self._reserves_room = True
            return problem
        try:
            if self._manager_has_failed:
                self.manager, self._is_first_manager, self._manager_has_failed = Manager(self._directory), False, False
            self._scores.add(step, scores)
            self._save = BackgroundSave(
                self.manager, step, state, lambda arrays: self._complete(step, dict(counts), arrays)
            )
        except OSError as error:
            self._forget(step)
            return with_free_space(reason(error), self._directory, self._bytes)
        return ""

    def has_failed(self) -> bool:
        """Returns whether the save that has begun has failed."""
        return self._save is not None and self._save.has_failed()

    def settle(self) -> str:
        """Waits for the save that has begun; if it has failed, forgets it and returns why, otherwise ""."""
        if self._save is None:
            return ""
        save, self._save = self._save, None
        if problem := save.result():
            self._forget(save.step)
            return with_free_space(problem, self._directory, self._bytes)
        self.manager.reload()
        self._reserves_room = False
        return ""

    def join(self) -> str:
        """Waits for the save that has begun, in this process only; returns why it has failed here, or ""."""
        return self._save.join() if self._save else ""

    def delete_old(self) -> None:
        """Deletes the checkpoints that are neither among the latest nor the best; as far as possible."""
        if jax.process_index() == 0:
            # What cannot be deleted now is deleted after a later save.
            with contextlib.suppress(OSError):
                complete, best = self._scores.steps, self._scores.best
                old = files.delete_old(self._directory, complete=complete, best=best, keep=self._keep)
                self._scores.remove(*old)

    def close(self) -> None:
        """Closes Orbax's manager, and collects the errors of those that have failed."""
        self.manager.discard()
        if self._manager_has_failed or not self._is_first_manager:
            collect_failed_save()

    def _problem(self) -> str:
        """Returns why the first process cannot save a state now, or ""."""
        if jax.process_index() != 0:
            return ""
        was_removed = not self._directory.exists()
        problem = storage_problem(self._directory, self._bytes, reserve=self._reserves_room)
        if was_removed and not problem:
            # It is there again, but what was in it is not: see `Checkpoints._remove_missing`.
            return with_free_space("their directory was removed", self._directory, self._bytes)
        return problem

    def _complete(self, step: int, counts: Mapping[str, int], arrays: ArrayDigests) -> None:
        """Writes the manifest of a checkpoint that Orbax has saved, and deletes old checkpoints."""
        if jax.process_index() == 0:
            folder, scores = self._directory / str(step), self._scores[step]
            write_manifest(folder, step=step, scores=scores, counts=counts, arrays=arrays)
            self.delete_old()

    def _forget(self, step: int) -> None:
        """Forgets a checkpoint whose save has failed, and deletes what is left of it."""
        self.manager.discard()
        collect_failed_save()
        self._manager_has_failed = self._reserves_room = True
        self._scores.remove(step)
        if jax.process_index() == 0:
            files.delete_failed(self._directory, step)
        with contextlib.suppress(OSError):
            self.manager.reload()
