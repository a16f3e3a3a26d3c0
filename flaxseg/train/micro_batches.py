"""The forward pass of training, on a whole batch or in micro-batches."""

import functools
from typing import Any

import jax

from flaxseg.errors import ArgumentError, check_choice
from flaxseg.inference.forward import channels_checked, normalize
from flaxseg.models.encoded import EncodedImages
from flaxseg.models.protocol import SegmentationModel, Variables
from flaxseg.train.batch_statistics import COLLECTION, NormalizedByWholeBatch, WithStatistics

BATCH_STATISTICS = ("micro_batches", "whole_batch")
"""What BatchNorm normalizes micro-batches by; see `training_logits`."""


def training_logits(
    variables: Variables,
    image: jax.Array | EncodedImages,
    dropout_key: jax.Array,
    *,
    model: SegmentationModel,
    accumulate_steps: int = 1,
    batch_statistics: str = "micro_batches",
) -> tuple[jax.Array, list[jax.Array], Any]:
    """Returns the logits of a training batch, the logits of auxiliary heads, and the updated batch statistics.

    With micro-batches, a loss of the returned logits is that of the whole batch: only BatchNorm and dropout see
    micro-batches. BatchNorm depends on `batch_statistics`, and dropout draws new masks for each micro-batch.

    - "micro_batches": BatchNorm normalizes each micro-batch by its own statistics and updates its running averages once
      for each.
    - "whole_batch": a first forward pass over the whole batch, which stores nothing for a backward pass, finds its
      statistics, and a second one normalizes the micro-batches by them. Without dropout, logits and running averages
      equal those of the whole batch in one piece. In the gradient, the terms through the statistics of each layer are
      sums over a micro-batch instead of the whole batch, so the gradient differs by their covariance with the features
      over micro-batches. The gradients of layers after the last BatchNorm are equal, and so are all of them if the
      micro-batches are. To take exactly the step of the whole batch in less memory, use `flaxseg.rematerialize`
      instead of micro-batches.

    Args:
      variables: `params` and `batch_stats`.
      image: [B, H, W, C] with values 0..255, or a frozen encoder's features of such images.
      dropout_key: random key of the dropout layers.
      model: the network.
      accumulate_steps: the number of micro-batches, a divisor of B. They run one after another, so that only the
        activations of one are in memory; each is recomputed in the backward pass.
      batch_statistics: a name of BATCH_STATISTICS, what BatchNorm normalizes micro-batches by.

    Returns:
      float32[B, H, W, num_classes]; a list of arrays of the same shape, one for each auxiliary head; and the tree
      `batch_stats`.

    Raises:
      ArgumentError: `accumulate_steps` does not divide the batch, or `batch_statistics` is unknown or not possible for
        the network.
    """
    check_choice("batch_statistics", batch_statistics, BATCH_STATISTICS)
    if accumulate_steps == 1:
        updates, logits = _forward(variables, (image, dropout_key), model=model)
        return *_main_and_auxiliary(logits), updates["batch_stats"]
    if len(image) % accumulate_steps:
        raise ArgumentError("accumulate_steps", accumulate_steps, f"does not divide the batch of {len(image)}")
    fixed = {"params": variables["params"]}
    if batch_statistics == "whole_batch":
        found, _ = _forward(jax.lax.stop_gradient(variables), (image, dropout_key), model=WithStatistics(model))
        fixed[COLLECTION] = found[COLLECTION]
        model = NormalizedByWholeBatch(model)

    def micro_batch(batch_stats: Any, inputs: Any) -> tuple[Any, Any]:
        updates, logits = _forward({**fixed, "batch_stats": batch_stats}, inputs, model=model)
        return updates["batch_stats"], logits

    keys = jax.random.split(dropout_key, accumulate_steps)
    inputs = jax.tree.map(functools.partial(_split, count=accumulate_steps), image), keys
    # Inside a scan, XLA cannot merge the recomputation with the first pass, so nothing has to prevent that.
    batch_stats, logits = jax.lax.scan(jax.checkpoint(micro_batch, prevent_cse=False), variables["batch_stats"], inputs)
    if batch_statistics == "whole_batch":
        batch_stats = found["batch_stats"]
    return *_main_and_auxiliary(jax.tree.map(_join, logits)), batch_stats


def _main_and_auxiliary(logits: tuple[jax.Array, Any]) -> tuple[jax.Array, list[jax.Array]]:
    main, auxiliary = logits
    return main, jax.tree.leaves(auxiliary)


def _forward(
    variables: Variables, inputs: tuple[jax.Array | EncodedImages, jax.Array], *, model: SegmentationModel
) -> tuple[dict[str, Any], tuple[jax.Array, Any]]:
    """Returns the updated batch statistics, by collection, and the logits with those of auxiliary heads."""
    image, dropout_key = inputs
    inputs_of_model: Any = image if isinstance(image, EncodedImages) else normalize(image, model)
    with channels_checked(image):
        logits, updates = model.apply(
            variables,
            inputs_of_model,
            train=True,
            mutable=["batch_stats", "auxiliary", COLLECTION],
            rngs={"dropout": dropout_key},
        )
    statistics = {name: updates.get(name, {}) for name in ("batch_stats", COLLECTION)}
    return statistics, (logits, updates.get("auxiliary", {}))


def _split(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] -> [count, B / count, ...]: micro-batch i has examples i, i + count, ..., evenly from all devices."""
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def _join(x: jax.Array) -> jax.Array:
    """Inverts `_split`."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
