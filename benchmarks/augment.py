"""Times augmentation relative to the training step, and prints JSON.

`python benchmarks/augment.py --batch 8 --size 128` times, in turn, the plain U-Net's training step without augmentation
and each set of augmentations alone, and prints the minimum CPU seconds of each and their ratios to the step's. Absolute
times depend on the machine and its load; quote the ratios.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxseg.augment import canvas_size, make_augment
from flaxseg.losses import weighted_sum
from flaxseg.models import plain_unet
from flaxseg.train.step import create_train_state, train_step

SCALE = (0.8, 1.25)
COLOR = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.2}
SETS: dict[str, dict[str, Any]] = {
    "common: scale, crop, flip, color": {"scale": SCALE, "flip": 0.5, **COLOR},
    "also rotate, shear, elastic": {
        "scale": SCALE, "flip": 0.5, **COLOR, "rotate": 15.0, "shear": 5.0, "elastic": 0.02,
    },
    "all": {
        "scale": SCALE, "flip": 0.5, **COLOR, "rotate": 15.0, "shear": 5.0, "elastic": 0.02, "rotate90": 0.5,
        "flip_vertical": 0.5, "max_class_fraction": 0.75, "cutmix": 0.5, "hue": 0.05, "gray": 0.1, "gamma": 0.2,
        "blur": 1.5, "noise": 0.05, "dropout": 0.3,
    },
}  # fmt: skip
NUM_CLASSES = 3


def random_batch(batch: int, size: tuple[int, int]) -> dict[str, jax.Array]:
    """Returns random images and labels."""
    random = np.random.default_rng(0)
    return {
        "image": jnp.asarray(random.integers(0, 256, (batch, *size, 3), np.uint8)),
        "label": jnp.asarray(random.integers(0, NUM_CLASSES, (batch, *size), np.uint8)),
    }


def training(batch: int, size: int) -> Callable[[], Any]:
    """Returns a function that takes one training step of the plain U-Net."""
    model, tx, given = plain_unet(num_classes=NUM_CLASSES), optax.adamw(1e-3), random_batch(batch, (size, size))
    state = jax.jit(functools.partial(create_train_state, model=model, tx=tx))(jax.random.key(0), given["image"])
    loss_fn = weighted_sum({"cross_entropy": 1.0})
    step = jax.jit(functools.partial(train_step, model=model, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    key = jax.random.key(1)

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, given, key)
        return metrics

    return call


def main() -> None:
    """Parses the flags, measures, and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=8)
    flags = parser.parse_args()
    canvas, key = random_batch(flags.batch, canvas_size((flags.size, flags.size), SCALE)), jax.random.key(2)
    calls = {"step": training(flags.batch, flags.size)}
    for name, options in SETS.items():
        calls[name] = functools.partial(
            jax.jit(make_augment(crop_size=(flags.size, flags.size), **options)), key, canvas
        )
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(flags.rounds + 1):
        for name, call in calls.items():
            begin = time.process_time()
            jax.block_until_ready(call())
            seconds[name].append(time.process_time() - begin)
    least = {name: min(values[1:]) for name, values in seconds.items()}  # the first call compiles
    ratios = {name: round(value / least["step"], 4) for name, value in least.items() if name != "step"}
    print(json.dumps({"batch": flags.batch, "size": flags.size, "ratio_to_step": ratios, "cpu_seconds": least}))


if __name__ == "__main__":
    main()
