"""The callback that writes histograms of parameters and gradients."""

from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxseg.errors import reason
from flaxseg.report.console import print_line
from flaxseg.report.event_files import GRADIENTS, PARAMETERS
from flaxseg.report.tensorboard import Summaries
from flaxseg.train.batches_seen import BatchesSeen
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.step import TrainState


class HistogramWriter(Callback):
    """Writes histograms at each evaluation, of the parameters and of the gradient that the next step takes.

    The gradient is computed by a program of its own, so that the training step is the same with and without it. If the
    devices cannot run it, this is printed, and the run continues without it; with several processes, the run ends.

    Args:
      summaries: receives the histograms.
      names: which of `histograms.HISTOGRAMS` to write.
    """

    def __init__(self, summaries: Summaries, names: Collection[str]) -> None:
        self._summaries = summaries
        self._names = names

    def on_start(self, run: Run, state: TrainState) -> None:
        self._batches = BatchesSeen(run)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        state = evaluation.state
        if state is None:
            return
        arrays: dict[str, np.ndarray] = {}
        if "parameters" in self._names:
            arrays |= _on_host(state.params, PARAMETERS)
        if "gradients" in self._names:
            arrays |= self._gradients(state)
        if arrays:
            self._summaries.histograms(step, arrays)

    def _gradients(self, state: TrainState) -> dict[str, np.ndarray]:
        try:
            return _on_host(self._batches.gradient(state), GRADIENTS)
        except jax.errors.JaxRuntimeError as error:  # Such as too little memory on the devices for this program, too.
            if jax.process_count() > 1:
                raise  # The other processes wait for this one.
            self._names = [name for name in self._names if name != "gradients"]
            print_line(
                f"histograms of gradients cannot be computed ({reason(error)}); training continues without them. To "
                "avoid the attempt, leave 'gradients' out of config.log.histograms"
            )
            return {}


def _on_host(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a tree by their paths; with several processes, all have to call it."""
    return {
        f"{prefix}{jax.tree_util.keystr(path, simple=True, separator='/')}": _whole(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _whole(leaf: jax.Array) -> np.ndarray:
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
