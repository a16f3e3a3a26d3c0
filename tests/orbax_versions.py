"""Shows that runs saved with one version of Orbax restore with another.

Call it with an environment of each version, in any order, on one folder:

    OLD/bin/python tests/orbax_versions.py save build/orbax
    NEW/bin/python tests/orbax_versions.py restore build/orbax

`restore` restores every checkpoint that `save` wrote, and compares all values.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from flaxseg.train.checkpoints import Checkpoints

VALUES = {
    "params": {"head": {"kernel": np.arange(12, dtype=np.float32).reshape(1, 1, 4, 3), "bias": np.ones(3, np.float32)}},
    "batch_stats": {"norm": {"mean": np.linspace(0, 1, 5, dtype=np.float32)}},
    "opt_state": [{"count": np.int32(7)}, {"mu": np.full((2, 2), 0.5, np.float32)}],
    "step": np.int32(3),
}
SCORES = {"miou": 0.5, "pixel_accuracy": 0.75}


def save(folder: Path) -> None:
    """Saves two checkpoints with the installed version."""
    with Checkpoints(folder / ocp.__version__, keep=2, best_metric="miou") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, jax.tree.map(jnp.asarray, VALUES), {**SCORES, "miou": 1 / step})


def restore(folder: Path) -> None:
    """Restores the checkpoints of every version with the installed one."""
    where = SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), VALUES)
    for there in sorted(folder.iterdir()):
        with Checkpoints(there, keep=2, best_metric="miou") as checkpoints:
            assert (checkpoints.latest_step, checkpoints.best_step) == (2, 1)
            for found in (checkpoints.restore(like, 1), checkpoints.restore_latest(like)):
                jax.tree.map(np.testing.assert_array_equal, found, VALUES)
            checkpoints.save(3, jax.tree.map(jnp.asarray, VALUES), SCORES)
            checkpoints.wait()
            jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(like, 3), VALUES)
        print(f"saved by orbax-checkpoint {there.name}, restored and extended by {ocp.__version__}")


if __name__ == "__main__":
    {"save": save, "restore": restore}[sys.argv[1]](Path(sys.argv[2]).absolute())
