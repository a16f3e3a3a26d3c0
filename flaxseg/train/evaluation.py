"""The evaluation of a run's state on its evaluation set."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Sequence

import jax
from tqdm import tqdm

from flaxseg.data.types import Batch
from flaxseg.inference.blending import blended_logits
from flaxseg.inference.scoring import EvalMetrics, merge_all
from flaxseg.inference.tiling import BLEND
from flaxseg.report.console import standard_error
from flaxseg.report.panels import Predicted
from flaxseg.train.build import Run
from flaxseg.train.compile import Compiled
from flaxseg.train.sharding import place_batch
from flaxseg.train.shown_images import Shown, as_predicted, fixed_indices, predictions, worst_indices
from flaxseg.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The metrics and scores of a state on the evaluation set, and a few of the images with their predictions.

    Attributes:
      metrics: the metrics.
      scores: every score by name, such as `miou`, and the IoU of each class, such as `iou/road`.
      images: the same images in each evaluation.
      worst: the images with the lowest IoU, the worst first.
      state: the state, until the next step is taken; None if it is not at hand.
    """

    metrics: EvalMetrics
    scores: dict[str, float]
    images: Sequence[Predicted] = ()
    worst: Sequence[Predicted] = ()
    state: TrainState | None = None


class EvaluationStopped(Exception):
    """The evaluation was abandoned, because the run stops."""


def evaluate(
    run: Run,
    compiled: Compiled,
    state: TrainState,
    *,
    shows_images: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluates a state on the whole evaluation set.

    Args:
      run: the run.
      compiled: its jitted functions.
      state: the state.
      shows_images: whether to collect the images that the run shows with their predictions.
      should_stop: called after each batch; returns whether to abandon the evaluation.

    Raises:
      EvaluationStopped: the evaluation was abandoned.
    """
    plan, length = run.loop.evaluation, len(run.data.to_show.source)
    images: list[Shown] = []
    indices = fixed_indices(plan.images, length) if shows_images else []
    total = merge_all(_score_batches(run, compiled, state, indices, images, should_stop))
    worst: list[Shown] = []
    if shows_images and plan.worst:
        worst = _predict_again(run, compiled, state, worst_indices(total.others["per_image"], plan.worst, length))
    scores = total.compute(run.data.train.class_names)
    return Evaluation(total, scores, as_predicted(images, total), as_predicted(worst, total), state)


def _score_batches(
    run: Run,
    compiled: Compiled,
    state: TrainState,
    indices: Collection[int],
    images: list[Shown],
    should_stop: Callable[[], bool],
) -> Iterator[EvalMetrics]:
    """Yields the scores of each batch, on the devices, and collects the images of some indices on the way."""
    batches = run.data.eval_batches
    with tqdm(
        total=len(batches),
        desc="evaluate" if compiled.score.has_scored else "evaluate, compiling",
        unit="batch",
        leave=False,
        mininterval=0.5,
        # None: only in a terminal.
        disable=True if jax.process_index() > 0 else None,
        file=standard_error(),
    ) as bar:
        for number, batch in enumerate(run.data.iterate(batches)):
            logits = _batch_logits(run, compiled, state, batch)
            yield compiled.score(logits, {key: value for key, value in batch.items() if key != "image"})
            images += predictions(run, compiled, number, batch, logits, indices)
            bar.set_description("evaluate", refresh=False)
            bar.update()
            if should_stop():
                raise EvaluationStopped


def _predict_again(run: Run, compiled: Compiled, state: TrainState, indices: Sequence[int]) -> list[Shown]:
    """Returns examples of the evaluation set in the order of `indices`, with the same predictions as those scored."""
    found: list[Shown] = []
    for number in sorted({index // run.loop.evaluation.batch_size for index in indices}):
        batch = run.data.eval_batches[number]
        found += predictions(run, compiled, number, batch, _batch_logits(run, compiled, state, batch), indices)
    return sorted(found, key=lambda each: indices.index(each.number))


def _batch_logits(run: Run, compiled: Compiled, state: TrainState, batch: Batch) -> jax.Array:
    """Returns the logits of an evaluation batch on the host."""
    inputs = {key: batch[key] for key in ("image", "extent") if key in batch}
    return image_logits(run, compiled, state, place_batch(inputs, run.loop.mesh))


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
