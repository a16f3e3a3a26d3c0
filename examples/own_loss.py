"""A loss of your own: the symmetric cross-entropy, which tolerates wrong labels (Wang et al. 2019).

    python examples/own_loss.py

A loss is a function of logits and labels that returns a scalar; its keyword-only arguments are its options. It is one
term of the sum that training minimizes, beside those of flaxseg:

    PYTHONPATH=examples flaxseg train --config=shapes --config.loss.own_loss:symmetric_cross_entropy=0.5

Paper: https://arxiv.org/abs/1908.06112
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from flaxseg import IGNORE_LABEL, create_train_state, plain_unet, train_step, weighted_sum
from flaxseg.data import shapes, train_batches


def symmetric_cross_entropy(
    logits: jax.Array, label: jax.Array, *, reverse_weight: float = 0.1, log_zero: float = -4.0
) -> jax.Array:
    """Returns the cross-entropy plus the weighted reverse cross-entropy, averaged over the valid pixels.

    Args:
      logits: float[B, H, W, K].
      label: integer[B, H, W], class indices or IGNORE_LABEL.
      reverse_weight: weight of the reverse cross-entropy.
      log_zero: what log(0) of the label's zeros is replaced by.
    """
    valid = label != IGNORE_LABEL
    target = jax.nn.one_hot(label, logits.shape[-1])  # All zeros where the label is ignored.
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    forward = -(target * log_probabilities).sum(-1)
    reverse = -(jnp.exp(log_probabilities) * log_zero * (1 - target)).sum(-1)
    # An ignored pixel must have no influence, on the value or on the gradient: select, then divide by the count.
    total = jnp.where(valid, forward + reverse_weight * reverse, 0.0).sum()
    return total / jnp.maximum(valid.sum(), 1)


def main(steps: int = 60) -> tuple[float, float]:
    """Trains with the loss, and returns its value at the first and the last step."""
    model, tx = plain_unet(num_classes=5, width=4, depth=1), optax.adam(1e-2)
    # By its name, as in a configuration; `partial(symmetric_cross_entropy, ...)` works in a loss function of your own.
    loss_fn = weighted_sum({"own_loss:symmetric_cross_entropy": 1.0, "dice": 0.5})
    step = jax.jit(partial(train_step, model=model, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    batches = train_batches(shapes("train", size=(32, 32)), canvas_size=(32, 32), batch_size=8, seed=0)
    state = jax.jit(partial(create_train_state, model=model, tx=tx))(jax.random.key(0), batches[0]["image"])
    losses = []
    for number in range(steps):
        state, metrics = step(state, batches[number], jax.random.key(1))
        losses.append(metrics.compute()["loss/own_loss:symmetric_cross_entropy"])
    print(f"symmetric cross-entropy: {losses[0]:.3f} at first, {losses[-1]:.3f} after {steps} steps")
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
