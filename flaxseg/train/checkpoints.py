"""The checkpoints of a run, saved with Orbax: the latest, and the best, each with a manifest."""

import math
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from absl import logging

from flaxseg.errors import CheckpointError
from flaxseg.models.pretrained.manifest import Damaged, Manifest, read_manifest, verify, write_manifest

_DELETED = ".deleted"
"""The suffix of a checkpoint that is being deleted, so that a killed run leaves none that looks complete."""


class Checkpoints:
    """The checkpoints of a run; use it in a `with` block, which waits for the last save.

    A checkpoint is complete once its manifest is on the disk, and only then are older ones deleted.

    Args:
      directory: contains a folder for each step; created if it does not exist.
      keep: number of latest checkpoints to keep.
      best_metric: the score whose highest value selects the best checkpoint, which is kept, too.
    """

    def __init__(self, directory: Path, *, keep: int, best_metric: str) -> None:
        self._directory = directory
        self._keep = keep
        self._best_metric = best_metric
        # Orbax keeps every checkpoint, and `_complete` deletes old ones.
        self._manager = ocp.CheckpointManager(
            directory.absolute(), item_handlers={"state": ocp.StandardCheckpointHandler()}
        )
        self._scores: dict[int, Mapping[str, float]] = {
            step: manifest.scores for step, manifest in self._manifests().items()
        }
        self._best_step = self._best_of(self._scores)
        self._completion: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._delete_old()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the latest checkpoint; None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint; None if none has scores."""
        return self._best_step

    def is_best(self, scores: Mapping[str, float]) -> bool:
        """Returns whether these scores are better than those of every checkpoint; NaN never is."""
        score = scores[self._best_metric]
        if math.isnan(score) or self._best_step is None:
            return not math.isnan(score)
        return not score <= self._scores[self._best_step][self._best_metric]

    def lacks_scores(self, step: int) -> bool:
        """Returns whether there is a checkpoint of a step that has not been evaluated."""
        return self._scores.get(step) == {}

    def counts(self, step: int) -> Mapping[str, int]:
        """Returns the numbers that a checkpoint was saved with; empty if there are none, or no such checkpoint."""
        manifest = read_manifest(self._directory / str(step))
        return manifest.counts if manifest else {}

    def save(
        self,
        step: int,
        state: Any,
        scores: Mapping[str, float] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Saves a state in the background; returns once it has been copied off the device.

        Args:
          step: its step; an existing checkpoint of this step is left unchanged, but receives scores if it has none.
          state: any tree of arrays.
          scores: the scores of this state's evaluation; None if it was not evaluated.
          counts: numbers by name that belong to the run and not to its state.
        """
        if step in self._manager.all_steps():
            self._add_scores(step, scores or {})
            return
        self._wait_for_completion()
        if scores and self.is_best(scores):
            self._best_step = step
        self._scores[step] = {name: float(score) for name, score in (scores or {}).items()}
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)))
        self._completion = threading.Thread(
            target=self._complete, args=(step, dict(counts or {})), name="complete checkpoint"
        )
        self._completion.start()

    def wait(self) -> None:
        """Waits until every save has reached the disk."""
        self._manager.wait_until_finished()
        self._wait_for_completion()

    def restore(self, like: Any, step: int) -> Any:
        """Returns the state of a step, sharded like `like`; any number of devices may have written it.

        Args:
          like: a tree of jax.ShapeDtypeStruct with shardings.
          step: the step of the checkpoint.

        Raises:
          CheckpointError: there is no checkpoint of that step, or its arrays differ; the message lists both shapes.
        """
        if step not in self._manager.all_steps():
            there = ", ".join(map(str, self._manager.all_steps())) or "none"
            raise CheckpointError(f"{self._directory}: no checkpoint of step {step}; steps there: {there}")
        self._check_fits(step, like)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        return self._manager.restore(step, args=arguments)["state"]

    def restore_latest(self, like: Any) -> Any | None:
        """Returns the state of the latest checkpoint that can be read; None if there is none.

        A damaged checkpoint is renamed to `STEP.damaged`, and the one before it is tried.

        Raises:
          CheckpointError: a checkpoint can be read, but does not fit.
        """
        while (step := self.latest_step) is not None:
            try:
                self._verify(step)
                return self.restore(like, step)
            except CheckpointError:
                raise
            # Orbax has no error type for damage; the type depends on the damaged file.
            except Exception as error:
                damaged = self._directory / f"{step}.damaged"
                message = "%s: the checkpoint of step %d cannot be read (%s: %s); renamed to %s"
                reason = str(error).splitlines()[0] if str(error) else ""
                logging.error(message, self._directory, step, type(error).__name__, reason, damaged.name)
                if jax.process_index() == 0:
                    (self._directory / str(step)).rename(damaged)
                self._scores.pop(step, None)
                self._best_step = self._best_of(self._scores)
                self._manager.reload()
        return None

    def _verify(self, step: int) -> None:
        """Checks that a checkpoint is complete and unchanged.

        Raises:
          Damaged: it is not; the message names the file.
        """
        directory = self._directory / str(step)
        manifest = read_manifest(directory)
        if manifest is not None:
            verify(directory, manifest)
        elif self._scores:
            raise Damaged("has no manifest, because it was not saved completely")
        else:
            logging.warning("%s: has no manifest, so that damage to it would not be noticed", directory)

    def _add_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Adds scores to the manifest of a complete checkpoint without any."""
        self._wait_for_completion()
        if not scores or not self.lacks_scores(step):
            return
        if self.is_best(scores):
            self._best_step = step
        self._scores[step] = {name: float(score) for name, score in scores.items()}
        if jax.process_index() == 0:
            write_manifest(self._directory / str(step), step=step, scores=self._scores[step])
            self._delete_old()

    def _complete(self, step: int, counts: Mapping[str, int]) -> None:
        """Writes the manifest of a checkpoint as soon as Orbax has saved it, and deletes old checkpoints."""
        try:
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                write_manifest(self._directory / str(step), step=step, scores=self._scores[step], counts=counts)
                self._delete_old()
        except BaseException as problem:
            self._problem = problem

    def _wait_for_completion(self) -> None:
        if self._completion is None:
            return
        self._completion.join()
        self._completion, problem, self._problem = None, self._problem, None
        self._manager.reload()
        if problem is not None:
            raise problem

    def _delete_old(self) -> None:
        """Deletes all complete checkpoints but the latest and the best, and what is left of earlier deletions."""
        if jax.process_index() != 0:
            return
        steps = sorted(self._scores)
        for step in steps[: -self._keep]:
            if step != self._best_step and (self._directory / str(step)).is_dir():
                # Renamed first: a killed run must not leave a part of it behind that looks like a checkpoint.
                (self._directory / str(step)).rename(self._directory / f"{step}{_DELETED}")
                del self._scores[step]
        for left in self._directory.glob(f"*{_DELETED}"):
            shutil.rmtree(left, ignore_errors=True)

    def _manifests(self) -> dict[int, Manifest]:
        """Returns the manifest of each checkpoint that has one, by step."""
        found = {}
        for step in self._manager.all_steps():
            try:
                manifest = read_manifest(self._directory / str(step))
            except Damaged:
                continue  # Noticed when it is to be restored.
            if manifest is not None:
                found[step] = manifest
        return found

    def _best_of(self, scores: Mapping[int, Mapping[str, float]]) -> int | None:
        """Returns the step with the highest score, the first of several; None if none has one."""
        found = {step: each.get(self._best_metric, math.nan) for step, each in sorted(scores.items())}
        found = {step: score for step, score in found.items() if not math.isnan(score)}
        return max(found, key=found.__getitem__) if found else None

    def _check_fits(self, step: int, like: Any) -> None:
        stored = _shapes(self._manager.item_metadata(step)["state"].tree)  # raises for a damaged checkpoint
        wanted = _shapes(like)
        differing = [
            f"  {name}: {stored.get(name, 'absent')} in the checkpoint, {wanted.get(name, 'absent')} in this run"
            # Parameters first: the arrays of the optimizer and the moving average differ along with them.
            for name in sorted(stored.keys() | wanted.keys(), key=lambda name: (not name.startswith("params/"), name))
            if stored.get(name) != wanted.get(name)
        ]
        if differing:
            more = [f"  and {len(differing) - 10} more"] if len(differing) > 10 else []
            raise CheckpointError(
                f"{self._directory}: the checkpoint of step {step} does not fit this configuration:\n"
                + "\n".join(differing[:10] + more)
                + "\nUse the configuration that it was trained with (config.json in the same run), or another --workdir"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    # Attributes, keys and indices look alike, because Orbax turns dataclasses and tuples into dicts and lists.
    return {
        "/".join(str(getattr(part, "name", getattr(part, "key", getattr(part, "idx", part)))) for part in path): tuple(
            leaf.shape
        )
        for path, leaf in paths
        if hasattr(leaf, "shape")
    }
