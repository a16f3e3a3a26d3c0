"""Several runs that take their steps together, each with its own evaluations, checkpoints and end."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flaxseg.train.compile import Call
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.supervision import Supervision

if TYPE_CHECKING:
    from flaxseg.train.fit import Member

TakeStep = Callable[[Sequence["Member"]], Sequence[Call]]
"""Takes the next step of some runs, which have taken the same number of steps."""

OnFailure = Callable[["Member", NonFiniteStep], None]
"""Called with a run that cannot continue, and the error."""


def fit_members(
    members: "Sequence[Member]",
    take_step: TakeStep,
    *,
    supervision: Supervision,
    on_failure: OnFailure | None = None,
) -> None:
    """Trains several runs to the end of each.

    All take the same step together. Those that are behind, because their latest checkpoint is an earlier one, catch up
    before the others continue.

    Args:
      members: the runs, which have the same plan, except for their random seeds and hyperparameters.
      take_step: takes the next step of some of them.
      supervision: ends all of them after the same call of `take_step`, each with a checkpoint.
      on_failure: called with a run that cannot continue, and the error; the others continue. None: it is raised.

    Raises:
      NonFiniteStep: see `fit`.
    """
    stall_minutes = members[0].run.loop.faults.stall_minutes
    with supervision.training(min(each.step for each in members), stall_minutes=stall_minutes):
        for each in members:
            each.start()
        _finish_step([each for each in members if each.repeats_evaluation], members, supervision, on_failure)
        while running := [each for each in members if not each.has_ended]:
            step = min(each.step for each in running)
            due = [each for each in running if each.step == step]
            for each, call in zip(due, take_step(due), strict=True):
                _attempt(each, functools.partial(each.receive, call), on_failure)
            _finish_step(due, members, supervision, on_failure)
        for each in members:
            if not each.has_failed:
                each.end()


def _finish_step(
    due: "Sequence[Member]",
    members: "Sequence[Member]",
    supervision: Supervision,
    on_failure: OnFailure | None,
) -> None:
    """Evaluates and saves those runs that have taken a step, where this is due; a signal ends all of them."""
    for each in due:
        _attempt(each, each.evaluate, on_failure)
    # Asked once for all of them, so that they stop after the same step.
    if due and supervision.should_stop(due[0].step):
        for each in members:
            each.stop(supervision.signal)
    for each in due:
        _attempt(each, each.save, on_failure)


def _attempt(member: "Member", action: Callable[[], None], on_failure: OnFailure | None) -> None:
    """Continues a run, unless it has failed; it fails if a step is not finite."""
    if member.has_failed:
        return
    try:
        action()
    except NonFiniteStep as error:
        if on_failure is None:
            raise
        member.fail()
        on_failure(member, error)
