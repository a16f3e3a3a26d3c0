"""The forward pass of training, on a whole batch or in micro-batches."""

import functools
from typing import Any

import jax

from flaxseg.errors import ArgumentError
from flaxseg.inference.forward import normalize
from flaxseg.models.encoded import EncodedImages
from flaxseg.models.protocol import SegmentationModel, Variables


def training_logits(
    variables: Variables,
    image: jax.Array | EncodedImages,
    dropout_key: jax.Array,
    *,
    model: SegmentationModel,
    accumulate_steps: int = 1,
) -> tuple[jax.Array, list[jax.Array], Any]:
    """Returns the logits of a training batch, the logits of auxiliary heads, and the updated batch statistics.

    Args:
      variables: `params` and `batch_stats`.
      image: [B, H, W, C] with values 0..255, or a frozen encoder's features of such images.
      dropout_key: random key of the dropout layers.
      model: the network.
      accumulate_steps: the number of micro-batches, a divisor of B. They run one after another, so that only the
        activations of one are in memory; each is recomputed in the backward pass. A loss of the returned logits is
        that of the whole batch. Only BatchNorm and dropout see micro-batches: BatchNorm normalizes each by its own
        statistics and updates its running averages once for each, and dropout draws new masks for each.

    Returns:
      float32[B, H, W, num_classes]; a list of arrays of the same shape, one for each auxiliary head; and the tree
      `batch_stats`.

    Raises:
      ArgumentError: `accumulate_steps` does not divide the batch.
    """
    forward = functools.partial(_forward, variables["params"], model=model)
    if accumulate_steps == 1:
        batch_stats, logits = forward(variables["batch_stats"], (image, dropout_key))
    else:
        if len(image) % accumulate_steps:
            raise ArgumentError("accumulate_steps", accumulate_steps, f"does not divide the batch of {len(image)}")
        keys = jax.random.split(dropout_key, accumulate_steps)
        # Inside a scan, XLA cannot merge the recomputation with the first pass, so nothing has to prevent that.
        micro_batch = jax.checkpoint(forward, prevent_cse=False)
        inputs = jax.tree.map(functools.partial(_split, count=accumulate_steps), image), keys
        batch_stats, logits = jax.lax.scan(micro_batch, variables["batch_stats"], inputs)
        logits = jax.tree.map(_join, logits)
    main, auxiliary = logits
    return main, jax.tree.leaves(auxiliary), batch_stats


def _forward(
    params: Any, batch_stats: Any, inputs: tuple[jax.Array | EncodedImages, jax.Array], *, model: SegmentationModel
) -> tuple[Any, tuple[jax.Array, Any]]:
    image, dropout_key = inputs
    inputs_of_model: Any = image if isinstance(image, EncodedImages) else normalize(image, model)
    logits, updates = model.apply(
        {"params": params, "batch_stats": batch_stats},
        inputs_of_model,
        train=True,
        mutable=["batch_stats", "auxiliary"],
        rngs={"dropout": dropout_key},
    )
    return updates.get("batch_stats", {}), (logits, updates.get("auxiliary", {}))


def _split(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] -> [count, B / count, ...]: micro-batch i has examples i, i + count, ..., evenly from all devices."""
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def _join(x: jax.Array) -> jax.Array:
    """Inverts `_split`."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
