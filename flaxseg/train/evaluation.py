"""The evaluation of a run's state on its evaluation set."""

import dataclasses
from collections import deque

import numpy as np
from tqdm import tqdm

from flaxseg.inference.scoring import EvalMetrics
from flaxseg.report.samples import SampleImages
from flaxseg.train.build import Run
from flaxseg.train.compile import Compiled
from flaxseg.train.sharding import place_batch
from flaxseg.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a state, each example counted once, and a few of the images with their predictions."""

    metrics: EvalMetrics
    scores: dict[str, float]
    images: SampleImages


def evaluate(run: Run, compiled: Compiled, state: TrainState, *, num_images: int) -> Evaluation:
    """Evaluates a state on the whole evaluation set.

    Args:
      run: the run.
      compiled: its jitted functions.
      state: the state.
      num_images: number of images that are collected with their predictions.
    """
    total: EvalMetrics | None = None
    images = SampleImages(num_images)
    pending: deque[EvalMetrics] = deque()
    batches = run.data.eval_batches

    def collect() -> EvalMetrics:
        measured = pending.popleft().to_host()
        return measured if total is None else total.merge(measured)

    with tqdm(total=len(batches), desc="evaluate", unit="batch", leave=False, mininterval=0.5, disable=None) as bar:
        for batch in run.data.iterate(batches):
            placed = place_batch(batch, run.loop.mesh)
            logits = compiled.logits(state, placed["image"])
            pending.append(compiled.score(logits, {key: value for key, value in placed.items() if key != "image"}))
            if images.wants_more:
                images.add(batch, np.asarray(compiled.label(logits)))
            # One batch behind: the device works on this one while the counts of the last are fetched.
            if len(pending) > 1:
                total = collect()
            bar.update()
    while pending:
        total = collect()
    assert total is not None, "an evaluation set has examples"
    return Evaluation(total, total.compute(), images)
