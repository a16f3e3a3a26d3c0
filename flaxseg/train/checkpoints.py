"""The checkpoints of a run, saved with Orbax: the latest, and the best."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from flaxseg.errors import CheckpointError


class Checkpoints:
    """The checkpoints of a run; use it in a `with` block, which waits for the last save.

    Args:
      directory: contains a folder for each step; created if it does not exist.
      keep: number of latest checkpoints to keep.
      best_metric: the score whose highest value selects the best checkpoint, which is kept, too.
    """

    def __init__(self, directory: Path, *, keep: int, best_metric: str) -> None:
        self._directory = directory
        self._best_metric = best_metric
        score = lambda metrics: metrics[best_metric]  # noqa: E731
        policies = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        # Without best_fn, Orbax stores no metrics, and the preservation policy has nothing to compare.
        options = ocp.CheckpointManagerOptions(preservation_policy=policies, best_fn=score, best_mode="max")
        self._manager = ocp.CheckpointManager(
            directory.absolute(), options=options, item_handlers={"state": ocp.StandardCheckpointHandler()}
        )
        # Tracked here from now on: Orbax reads scores from the disk, where those of a pending save are still missing.
        best = self._manager.best_step()
        self._best_score = None if best is None else (self._manager.metrics(best) or {}).get(best_metric)
        self._best_step = best

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        return not math.isnan(score) and (self._best_score is None or not score <= self._best_score)

    def save(self, step: int, state: Any, scores: Mapping[str, float] | None = None) -> None:
        """Saves a state in the background; returns once it has been copied off the device.

        Args:
          step: its step; an existing checkpoint of this step is left unchanged.
          state: any tree of arrays.
          scores: the scores of this state's evaluation; None if it was not evaluated.
        """
        if step in self._manager.all_steps():
            return
        if scores and self.is_best(scores):
            self._best_score, self._best_step = scores[self._best_metric], step
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state))
        self._manager.save(step, args=arguments, metrics=dict(scores) if scores else None)

    def wait(self) -> None:
        """Waits until every save has reached the disk."""
        self._manager.wait_until_finished()

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
                self._manager.reload()
        return None

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
