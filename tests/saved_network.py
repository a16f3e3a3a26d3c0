"""The files of a run without its training: a network's description and checkpoints with scores."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp

from flaxseg.deploy.saved import SavedModel
from flaxseg.train.checkpoints import Checkpoints

SCORES = {10: 0.25, 20: 0.75, 30: 0.5}
"""The mIoU of each checkpoint. Each holds the network's parameters multiplied by 1 + step / 100."""


def write_run(folder: Path, network: SavedModel) -> Path:
    """Writes a run and returns its working directory."""
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(network.description.to_json())
    config = {"data": {"name": "shapes", "dir": "/home/someone"}, "checkpoint": {"best_metric": "miou"}, "seed": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "data.json").write_text(json.dumps({"train": {"examples": 1600}, "eval": {"examples": 400}}))
    with Checkpoints(folder / "checkpoints", keep=3, best_metric="miou") as checkpoints:
        for step, score in SCORES.items():
            scale = 1 + step / 100
            params = jax.tree.map(lambda leaf, scale=scale: jnp.asarray(leaf) * scale, network.variables["params"])
            state = {"params": params, "batch_stats": network.variables.get("batch_stats", {}), "step": jnp.int32(step)}
            checkpoints.save(step, state, {"miou": score, "pixel_accuracy": 0.875})
            checkpoints.wait()
    return folder
