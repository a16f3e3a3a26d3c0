"""Times an epoch on the cached features of a frozen encoder, compared with an epoch on cached images, and prints JSON.

    python benchmarks/features_cache.py --network linear --encoder vit_small_patch14_dinov2 --size 224
    python benchmarks/features_cache.py --network upernet --encoder convnext_tiny --size 256 --images 8 --batch 4

Both runs train the same network on generated images, without evaluation; images are decoded before the epoch. The
encoder has random weights, which cost the same as trained ones. `speedup` is the ratio of their times, of the least
over --rounds alternating rounds, in wall time and in CPU time; the latter depends less on what else the machine does.
`bound` is the ratio of the multiply-adds of the two training steps, which the speedup cannot exceed as long as both
compute at the same rate, and `encode` the time of filling the cache, as a multiple of an epoch on images.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flaxseg.config.files import load_config
from flaxseg.models.flops import multiply_adds
from flaxseg.train.build import Run, build
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.sharding import place_batch
from flaxseg.train.state import create_state, load_weights
from flaxseg.train.training_data import training_data


class Epochs:
    """One of the two runs, which takes an epoch whenever it is called.

    Args:
      run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._mesh, self._key = run.loop.mesh, run.loop.step_key
        self._state = create_state(run, load_weights(run))
        clock = Clock()
        data, stored = training_data(run, self._state)
        self._batches = data.train_batches
        self.fill = clock.read()
        self._steps = len(run.data.train.source) // run.loop.call.batch_size
        train = compile_run(run, self._state).train
        self._step = lambda state, batch, number: train(state, batch, self._key, stored, Turn(number, 0, 0))
        self._number = 0
        batch = place_batch(self._batches[0], self._mesh)
        self.multiply_adds = multiply_adds(jax.make_jaxpr(self._step)(self._state, batch, 0))
        self.loss = float(self.epoch().loss.compute())

    def epoch(self) -> Any:
        """Takes an epoch, and returns the metrics of its first step."""
        found = []
        for _ in range(self._steps):
            batch = place_batch(self._batches[self._number], self._mesh)
            self._state, metrics, _ = self._step(self._state, batch, self._number)
            self._number += 1
            found.append(metrics)
        jax.block_until_ready(self._state)
        return found[0]


class Clock:
    """Wall time and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        """Returns the seconds of wall time and of CPU time."""
        return np.array([time.perf_counter() - self._wall, time.process_time() - self._cpu])


def timed(call: Callable[[], Any]) -> np.ndarray:
    """Returns the seconds of wall time and of CPU time that a call takes."""
    clock = Clock()
    call()
    return clock.read()


def make_runs(flags: argparse.Namespace, folder: Path) -> dict[str, Run]:
    """Returns the run on images and the run on features, with one random encoder that is read from a file."""
    size = f"({flags.size},{flags.size})"
    overrides = [
        f"model.name={flags.network}", "model.options={}", f"model.options.encoder={flags.encoder}",
        *(f"model.options.{option}" for option in flags.option),
        f"data.image_size={size}", f"data.options.size={size}", f"data.options.count={flags.images}",
        f"train.batch_size={flags.batch}", f"train.precision={flags.precision}", "optimizer.warmup_steps=0",
        "optimizer.ema_decay=0.0", "mesh.data=1",
    ]  # fmt: skip
    first = build(load_config("configs/shapes.py", overrides))
    state, path = create_state(first, None), folder / "weights.npz"
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    np.savez(path, **jax.device_get(traverse_util.flatten_dict(variables, sep="/")))
    frozen = [*overrides, f"model.pretrained={path}", "optimizer.freeze=('encoder',)"]
    return {
        name: build(load_config("configs/shapes.py", [*frozen, f"data.cache={cache}"]))
        for name, cache in (("images", "host"), ("features", "features"))
    }


def main() -> None:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="linear")
    parser.add_argument("--encoder", default="vit_small_patch14_dinov2")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the network")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Epochs(run) for name, run in make_runs(flags, Path(folder)).items()}
    rounds = [{name: timed(side.epoch) for name, side in sides.items()} for _ in range(flags.rounds)]
    least = {name: np.min([each[name] for each in rounds], 0) for name in sides}
    speedup = least["images"] / least["features"]
    bound = sides["images"].multiply_adds / sides["features"].multiply_adds
    result = {
        **{
            name: getattr(flags, name)
            for name in ("network", "encoder", "option", "precision", "size", "images", "batch")
        },
        "device": jax.devices()[0].device_kind,
        "epoch_on_images_s": least["images"].round(3).tolist(),
        "epoch_on_features_s": least["features"].round(3).tolist(),
        "speedup": speedup.round(2).tolist(),
        "bound": round(bound, 3),
        "fraction_of_bound": (speedup / bound).round(3).tolist(),
        "encode": (sides["features"].fill / least["images"]).round(2).tolist(),
        "first_loss_difference": abs(sides["images"].loss - sides["features"].loss) / abs(sides["images"].loss),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
