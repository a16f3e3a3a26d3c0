"""The checkpoints of a run, saved with Orbax: the latest, and the best, each with a manifest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from flaxseg.errors import CheckpointError
from flaxseg.models.pretrained.manifest import Damaged, add_scores, read_manifest
from flaxseg.report.console import print_line
from flaxseg.train import checkpoint_files as files
from flaxseg.train.checkpoint_contents import check_fits
from flaxseg.train.checkpoint_damage import find_changed_array, find_damage, set_aside
from flaxseg.train.checkpoint_saves import CheckpointSaves
from flaxseg.train.checkpoint_scores import CheckpointScores
from flaxseg.train.no_saves import NoSaves
from flaxseg.train.orbax_errors import HiddenOrbaxErrors
from flaxseg.train.processes import first_message
from flaxseg.train.storage import Retries, reason, with_free_space

_MANIFEST_BYTES = 65536


class Checkpoints:
    """The checkpoints of a run; use it in a `with` block, which waits for the last save.

    A checkpoint is complete once its manifest is on the disk, and only then are older ones deleted. With several
    processes, all of them save, and wait for the disk, together.

    Args:
      directory: contains a folder for each step; created if it does not exist.
      keep: number of latest checkpoints to keep; 0: none is saved, the directory is not created, and what is said of
        checkpoints below applies to the states that would be saved. There must be no earlier checkpoints.
      best_metric: the score whose highest value selects the best checkpoint, which is kept, too.
      retry_minutes: for how long to try again where a checkpoint cannot be saved, as on a full disk.

    Attributes:
      should_stop: returns whether the run is to stop, in which case no checkpoint is tried again.
    """

    def __init__(self, directory: Path, *, keep: int, best_metric: str, retry_minutes: float = 0.0) -> None:
        self._directory = directory
        self._retry_minutes = retry_minutes
        self.should_stop: Callable[[], bool] = lambda: False
        self._scores = CheckpointScores(
            best_metric, {step: manifest.scores for step, manifest in files.manifests(directory).items()}
        )
        self._counts: Mapping[str, int] = {}
        self._errors = HiddenOrbaxErrors()
        self._saves: Any = CheckpointSaves(directory, self._scores, keep=keep) if keep else NoSaves(self._scores)

    def __enter__(self) -> Self:
        self._errors.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            # The other processes may not get here.
            elif problem := self._saves.join():
                self._report(f"{self._name(self._saves.step or 0)} was not saved ({problem})")
        finally:
            self._saves.close()
            self._errors.__exit__(kind, error, trace)

    @property
    def latest_step(self) -> int | None:
        """The step of the latest checkpoint; None if there is none."""
        return self._saves.manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint; None if none has scores."""
        return self._scores.best

    @property
    def best_score(self) -> float | None:
        """The score of the best checkpoint; None if none has scores."""
        return self._scores.best_score

    @property
    def improved_step(self) -> int | None:
        """The step of the best score, even if saving its checkpoint has failed since; None if there is none."""
        return self._scores.improved

    def is_best(self, scores: Mapping[str, float]) -> bool:
        """Returns whether these scores are better than those of every checkpoint; NaN never is."""
        return self._scores.is_best(scores)

    def lacks_scores(self, step: int) -> bool:
        """Returns whether there is a checkpoint of a step that has not been evaluated."""
        return step in self._scores.steps and not self._scores[step]

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

        If it cannot be saved, or if the previous save has failed, it waits until this state is saved. What the failed
        save has left is deleted, and its scores are forgotten, because the best checkpoint has to exist. If the run is
        to stop meanwhile, it reports that the state was not saved, and returns.

        Args:
          step: its step; an existing checkpoint of this step is left unchanged, but receives scores if it has none.
          state: any tree of arrays.
          scores: the scores of this state's evaluation; None if it was not evaluated.
          counts: numbers by name that belong to the run and not to its state.

        Raises:
          CheckpointError: it could not be saved for `retry_minutes`; earlier checkpoints are unchanged.
        """
        problem = self._saves.settle()
        if step in self._saves.manager.all_steps():
            self._add_scores(step, scores or {})
            return
        self._counts = counts or {}
        if problem := problem or self._saves.begin(step, state, scores or {}, self._counts):
            self._save_when_possible(step, state, scores or {}, problem)

    def has_failed(self) -> bool:
        """Returns whether the last save has failed; with several processes, all of them have to call it together."""
        return self._saves.has_failed()

    def finish(self, step: int, state: Any) -> None:
        """Waits until every save has reached the disk; if the last one has failed, saves a state in its place.

        Args:
          step: the step of that state.
          state: the state at the end of the run.

        Raises:
          CheckpointError: see `save`.
        """
        scores = self._scores[step]
        if problem := self._saves.settle():
            self._save_when_possible(step, state, scores, problem)

    def wait(self) -> None:
        """Waits until every save has reached the disk.

        Raises:
          CheckpointError: the last one has failed.
        """
        step = self._saves.step or 0
        if problem := self._saves.settle():
            raise CheckpointError(f"{self._name(step)} could not be saved ({problem})")

    def restore(self, like: Any, step: int) -> Any:
        """Returns the state of a step, sharded like `like`; any number of devices may have written it.

        Args:
          like: a tree of jax.ShapeDtypeStruct with shardings.
          step: the step of the checkpoint.

        Raises:
          CheckpointError: there is no checkpoint of that step, or its arrays differ; the message lists both shapes.
        """
        if step not in self._saves.manager.all_steps():
            there = ", ".join(map(str, self._saves.manager.all_steps())) or "none"
            raise CheckpointError(f"{self._directory}: no checkpoint of step {step}; steps there: {there}")
        stored = self._saves.manager.item_metadata(step)["state"].tree  # raises for a damaged checkpoint
        check_fits(self._directory, step, stored, like)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        return self._saves.manager.restore(step, args=arguments)["state"]

    def restore_latest(self, like: Any) -> Any | None:
        """Returns the state of the latest checkpoint that can be read; None if there is none.

        A damaged checkpoint is renamed to `STEP.damaged`, and the one before it is tried. What a killed run has not
        deleted is deleted only then, because the latest checkpoint may be damaged.

        Raises:
          CheckpointError: a checkpoint can be read, but does not fit.
        """
        state = None
        while state is None and (step := self.latest_step) is not None:
            try:
                if damage := find_damage(self._directory, step, self._scores):
                    raise damage
                state = self.restore(like, step)
                if damage := find_changed_array(self._directory, step, state):
                    state = None
                    raise damage
            except CheckpointError:
                raise
            # Orbax has no error type for damage; the type depends on the damaged file.
            except Exception as error:
                set_aside(self._directory, step, error, self._scores)
                self._saves.manager.reload()
        self._saves.delete_old()
        # Also of what has just been deleted.
        self._saves.manager.reload()
        return state

    def _add_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Adds scores to the manifest of a complete checkpoint that has none."""
        if not scores or not self.lacks_scores(step):
            return
        self._scores.add(step, scores)
        retries = Retries(self._retry_minutes, self.should_stop)
        while problem := first_message(self._scores_problem(step)):
            if retries.wait():
                continue
            problem = f"the scores of {self._name(step)} could not be saved ({problem}); it is evaluated again"
            if retries.is_stopped:
                return self._report(f"{problem} when the run is resumed")
            raise CheckpointError(f"{problem} when you repeat the command. Free space, or make the directory writable")
        self._saves.delete_old()

    def _scores_problem(self, step: int) -> str:
        """Adds the scores of a step to its manifest; returns why that is not possible, or ""."""
        try:
            if jax.process_index() == 0:
                add_scores(self._directory / str(step), self._scores[step])
        except OSError as error:
            return with_free_space(reason(error), self._directory, _MANIFEST_BYTES)
        except Damaged as error:
            return str(error)
        return ""

    def _save_when_possible(self, step: int, state: Any, scores: Mapping[str, float], problem: str) -> None:
        """Saves a state, trying again and again; see `save`."""
        retries = Retries(self._retry_minutes, self.should_stop)
        minutes = f"{self._retry_minutes:g} minutes"
        if self._retry_minutes and not self.should_stop():
            waits = f"training waits, and tries again for {minutes}"
            self._report(f"{self._name(step)} cannot be saved ({problem}); {waits}")
        while problem := self._saves.begin(step, state, scores, self._counts) or self._saves.settle():
            if retries.wait():
                continue
            latest = self.latest_step
            resumes = "there is no earlier one" if latest is None else f"the run can be resumed from step {latest}"
            if not retries.is_stopped:
                raise CheckpointError(
                    f"{self._name(step)} could not be saved for {minutes} ({problem}); {resumes}. Free space, or make "
                    "the directory writable, and repeat the command"
                )
            self._report(f"{self._name(step)} was not saved, because the run is to stop ({problem}); {resumes}")
            return
        self._remove_missing()
        self._report(f"{self._name(step)} was saved after {retries.seconds:.0f} s; training continues")

    def _remove_missing(self) -> None:
        """Removes the scores of checkpoints that no longer exist, as after their directory was deleted."""
        found = " ".join(map(str, files.manifests(self._directory))) if jax.process_index() == 0 else ""
        there = first_message(found).split()
        self._scores.remove(*(step for step in list(self._scores.steps) if str(step) not in there))

    def _name(self, step: int) -> str:
        return f"{self._directory}: the checkpoint of step {step}"

    def _report(self, message: str) -> None:
        if jax.process_index() == 0:
            print_line(message)
