"""An ensemble by vmap: the members' parameters are stacked, and one jitted program trains and predicts all of them.

    python examples/ensemble.py

Members differ in their initial weights only. Every leaf of the state has a leading axis of members, over which
`jax.vmap` maps the step of a single network. Networks that were trained one by one, of whatever kinds, are an ensemble
by `flaxseg.load(["runs/a", "runs/b"])`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxseg import TrainState, create_train_state, plain_unet, predict_logits, train_step, weighted_sum
from flaxseg.data import shapes, train_batches
from flaxseg.losses import cross_entropy
from flaxseg.metrics import ConfusionMatrix

MODEL = plain_unet(num_classes=5, width=4, depth=2)


def train(members: int, steps: int, *, size: int = 32) -> TrainState:
    """Returns the states of networks that were trained together on the same batches, stacked along the first axis."""
    tx, loss_fn = optax.adam(5e-3), weighted_sum({"cross_entropy": 1.0, "dice": 1.0})
    batches = train_batches(shapes("train", size=(size, size)), canvas_size=(size, size), batch_size=8, seed=0)
    create = partial(create_train_state, model=MODEL, tx=tx)
    create_all = jax.jit(jax.vmap(create, in_axes=(0, None)))
    states = create_all(jax.random.split(jax.random.key(0), members), jnp.asarray(batches[0]["image"]))
    # Each member has its own state; the batch and the random key are shared.
    one_step = partial(train_step, model=MODEL, loss_fn=loss_fn, tx=tx)
    all_steps = jax.jit(jax.vmap(one_step, in_axes=(0, None, None)), donate_argnums=0)
    for number in range(steps):
        states, metrics = all_steps(states, batches[number], jax.random.key(1))
    losses = np.asarray(metrics.loss.total / metrics.loss.count)
    print("loss of each member:", ", ".join(f"{loss:.3f}" for loss in losses))
    return states


@jax.jit
def member_probabilities(states: TrainState, image: jax.Array) -> jax.Array:
    """Returns the probabilities of each member, float32[members, B, H, W, K], of images [B, H, W, C] in 0..255."""
    logits = jax.vmap(partial(predict_logits, model=MODEL), in_axes=(0, None))(states, image)
    return jax.nn.softmax(logits)


def main(members: int = 4, steps: int = 200) -> dict[str, float]:
    """Trains an ensemble; returns scores of its mean, of its members on average, and their disagreement."""
    states = train(members, steps)
    held_out = train_batches(shapes("test", size=(32, 32)), canvas_size=(32, 32), batch_size=64, seed=0)[0]
    probabilities = member_probabilities(states, held_out["image"])

    def miou(found: jax.Array) -> float:
        counted = ConfusionMatrix.from_model_output(
            prediction=found.argmax(-1), label=held_out["label"], num_classes=found.shape[-1], logits=found, size=None
        )
        return counted.compute()["miou"]

    def loss(found: jax.Array) -> float:
        return float(cross_entropy(jnp.log(jnp.maximum(found, 1e-30)), held_out["label"]))

    mean = probabilities.mean(0)
    scores = {
        "miou": miou(mean),
        "member_miou": float(np.mean([miou(each) for each in probabilities])),
        # The loss of the mean is never above the mean of the losses: -log is convex.
        "loss": loss(mean),
        "member_loss": float(np.mean([loss(each) for each in probabilities])),
        "disagreement": float((probabilities.argmax(-1) != mean.argmax(-1)).mean()),
    }
    print(f"mIoU {scores['miou']:.3f}, of single members {scores['member_miou']:.3f} on average")
    print(f"cross-entropy {scores['loss']:.3f}, of single members {scores['member_loss']:.3f} on average")
    return scores


if __name__ == "__main__":
    main()
