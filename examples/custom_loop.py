"""Your own training loop around flaxseg's pure step; no TensorFlow, no configuration.

python examples/custom_loop.py
"""

from functools import partial

import jax
import optax

from flaxseg import compiler_options, create_train_state, eval_step, plain_unet, train_step, weighted_sum
from flaxseg.data import eval_batches, iterate, shapes, train_batches
from flaxseg.inference.scoring import merge_all


def main(steps: int = 60) -> float:
    """Trains on the built-in shapes and returns the mIoU on held-out images."""
    model = plain_unet(num_classes=5, width=8, depth=2)
    tx = optax.adamw(3e-3)
    step = jax.jit(
        partial(train_step, model=model, loss_fn=weighted_sum({"cross_entropy": 1.0}), tx=tx),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    batches = train_batches(shapes("train"), canvas_size=(64, 64), batch_size=8, seed=0)
    key = jax.random.key(0)
    create = jax.jit(partial(create_train_state, model=model, tx=tx), compiler_options=compiler_options(runs_once=True))
    state = create(key, batches[0]["image"])
    for batch, _ in zip(iterate(batches, num_threads=2, prefetch=4), range(steps), strict=False):
        state, metrics = step(state, batch, key)
    print(f"after {steps} steps: {metrics.compute()}")
    print(metrics.check.describe() or "all is finite")

    held_out = shapes("test")
    score = jax.jit(partial(eval_step, model=model))
    batches = eval_batches(held_out, image_size=(64, 64), batch_size=64)
    scores = merge_all(score(state, batch) for batch in iterate(batches, num_threads=2, prefetch=4))
    print(f"held-out images:\n{scores.table(held_out.class_names)}")
    return scores.compute()["miou"]


if __name__ == "__main__":
    main()
