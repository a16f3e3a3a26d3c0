"""The callback that shows training batches as the network sees them."""

from flaxseg.report.tensorboard import Summaries
from flaxseg.train.batches_seen import BatchesSeen
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.step import TrainState


class BatchWriter(Callback):
    """Writes a panel of the first batch of a run, and of the latest one at each evaluation, after augmentation.

    The batches are read again, so that the training loop does not have to keep them.

    Args:
      summaries: receives the panels.
      count: the largest number of images in a panel; 0: there are no panels.
    """

    def __init__(self, summaries: Summaries, count: int) -> None:
        self._summaries = summaries
        self._count = count

    def on_start(self, run: Run, state: TrainState) -> None:
        self._batches = BatchesSeen(run)
        if int(state.step) == 0:
            self._write(0, 0)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._write(step, step - 1)

    def _write(self, step: int, number: int) -> None:
        if self._count:
            self._summaries.batch(step, *self._batches.images(number, self._count))
