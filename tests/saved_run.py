"""A run's directory with checkpoints, made without training."""

import jax
import numpy as np

from flaxseg.config.files import load_config
from flaxseg.inference.description import ModelDescription
from flaxseg.train.build import build
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.parts.model import describe_model
from flaxseg.train.state import create_state
from flaxseg.train.workdir import Workdir

DESCRIPTION = ModelDescription(
    name="plain_unet", options={"width": 4}, num_classes=2, channels=3, image_size=(8, 8), class_names=("a", "b"),
    palette=((0, 0, 0), (1, 2, 3)), mean=1.0, std=2.0,
)  # fmt: skip

OVERRIDES = ["optimizer.ema_decay=0.5", "data.options.size=(20,27)", "eval.batch_size=8", "log.images=0"]


def save_run(directory, *, scores, file="configs/shapes.py:tiny", overrides=OVERRIDES):
    """Writes a run with a checkpoint for each step of `scores`; returns the configuration, the run and the states.

    Args:
      directory: the working directory.
      scores: the miou of each step, or None for a checkpoint without scores.
      file: the configuration file.
      overrides: strings `key=value`.
    """
    config = load_config(file, overrides)
    run, workdir, states = build(config), Workdir(directory), {}
    workdir.claim(config, run.data.splits, describe_model(config, run.model, run.data.train))
    new = create_state(run, None)
    with Checkpoints(workdir.checkpoints, keep=5, best_metric="miou") as checkpoints:
        for step, score in scores.items():
            states[step] = new.replace(
                step=new.step + step,
                params=_varied(new.params, step),
                batch_stats=_varied(new.batch_stats, step),
                ema_params=None if new.ema_params is None else _varied(new.params, 100 + step),
            )
            checkpoints.save(step, states[step], None if score is None else {"miou": score})
    return config, run, states


def _varied(tree, seed):
    """Returns arrays of the same shapes and shardings with other positive and negative values, all of them set."""
    rng = np.random.default_rng(seed)

    def vary(path, leaf):
        noise = rng.normal(0, 0.3, leaf.shape).astype(np.float32)
        value = np.abs(noise) + 0.5 if path[-1].key == "var" else np.asarray(leaf) + noise
        return jax.device_put(value, leaf.sharding)

    return jax.tree_util.tree_map_with_path(vary, tree)
