"""The evaluation of a run's state on its evaluation set."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
from tqdm import tqdm

from flaxseg.data.types import Batch
from flaxseg.inference.blending import blended_logits
from flaxseg.inference.scoring import EvalMetrics, merge_all
from flaxseg.inference.tiling import BLEND
from flaxseg.report.console import standard_error
from flaxseg.report.samples import SampleImages
from flaxseg.train.build import Run
from flaxseg.train.compile import Compiled
from flaxseg.train.sharding import place_batch
from flaxseg.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The metrics and scores of a state on the evaluation set, and a few of the images with their predictions."""

    metrics: EvalMetrics
    scores: dict[str, float]
    images: SampleImages


class EvaluationStopped(Exception):
    """The evaluation was abandoned, because the run stops."""


def evaluate(
    run: Run,
    compiled: Compiled,
    state: TrainState,
    *,
    num_images: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluates a state on the whole evaluation set.

    Args:
      run: the run.
      compiled: its jitted functions.
      state: the state.
      num_images: number of images to collect with their predictions.
      should_stop: called after each batch; returns whether to abandon the evaluation.

    Raises:
      EvaluationStopped: the evaluation was abandoned.
    """
    images = SampleImages(num_images)
    total = merge_all(_score_batches(run, compiled, state, images, should_stop))
    return Evaluation(total, total.compute(), images)


def _score_batches(
    run: Run, compiled: Compiled, state: TrainState, images: SampleImages, should_stop: Callable[[], bool]
) -> Iterator[EvalMetrics]:
    """Yields the scores of each batch, on the devices, and collects images on the way."""
    batches = run.data.eval_batches
    with tqdm(
        total=len(batches),
        desc="evaluate",
        unit="batch",
        leave=False,
        mininterval=0.5,
        # None: only in a terminal.
        disable=True if jax.process_index() > 0 else None,
        file=standard_error(),
    ) as bar:
        for batch in run.data.iterate(batches):
            inputs = {key: batch[key] for key in ("image", "extent") if key in batch}
            logits = image_logits(run, compiled, state, place_batch(inputs, run.loop.mesh))
            yield compiled.score(logits, {key: value for key, value in batch.items() if key != "image"})
            if images.wants_more:
                images.add(batch, compiled.label(logits))
            bar.update()
            if should_stop():
                raise EvaluationStopped


def image_logits(run: Run, compiled: Compiled, state: TrainState, batch: Batch) -> jax.Array:
    """Returns the logits of an evaluation batch; images that keep their sizes are predicted in overlapping tiles.

    Args:
      run: the run.
      compiled: its jitted functions.
      state: the state.
      batch: a batch on the devices; with `extent` if images keep their sizes.

    Returns:
      float32[B, H, W, num_classes], for images [B, H, W, C].
    """
    tile = run.loop.evaluation.tile
    if tile is None:
        return compiled.logits(state, batch["image"])
    network = functools.partial(compiled.logits, state)
    return blended_logits(network, batch["image"], batch["extent"], tile=tile, tiling=BLEND)
