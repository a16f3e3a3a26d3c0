"""Compares losses by the mIoU they reach with the same network and budget; prints a JSON line per loss and seed.

`python benchmarks/loss_scores.py --root DIR`, where DIR contains CamVid in SegNet's layout, trains a plain U-Net of
width 16 with each loss in LOSSES, alone or added to cross-entropy, and with class weights from the training set. It
prints the scores of the last evaluation on `val` as soon as a run ends.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from flaxseg.config.files import load_config
from flaxseg.losses import LOSSES
from flaxseg.train.loop import train_and_evaluate

ALONE = ("cross_entropy", "binary_cross_entropy", "focal", "binary_focal", "ohem_cross_entropy", "poly_cross_entropy")
"""Pixel-wise losses, which replace cross-entropy; all others are added to it."""

WEIGHTINGS = ("log", "median_frequency", "effective_number")


def recipes() -> dict[str, dict[str, Any]]:
    """Returns the changes of each run to the configuration, by name."""
    found: dict[str, dict[str, Any]] = {name: {"loss": {name: 1.0}} for name in ALONE}
    for weighting in WEIGHTINGS:
        found[f"cross_entropy, {weighting} weights"] = {"loss": {"cross_entropy": 1.0}, "class_weights": weighting}
    for name in LOSSES:
        if name not in ALONE:
            found[f"cross_entropy + {name}"] = {"loss": {"cross_entropy": 1.0, name: 1.0}}
    return found


def score(root: str, changes: Mapping[str, Any], *, seed: int, steps: int, size: tuple[int, int]) -> dict[str, Any]:
    """Trains once and returns the scores of the last evaluation, and the duration."""
    overrides = [
        f"data.dir={root}",
        f"data.image_size={size}",
        "data.cache=host",
        "model.options.width=16",
        f"train.steps={steps}",
        f"seed={seed}",
        f"eval.every={steps}",
        "log.images=0",
    ]
    config = load_config("configs/camvid.py", overrides)
    for key, value in changes.items():
        config[key] = value
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir:
        result = train_and_evaluate(config, workdir)
    assert result.scores is not None
    scores = result.scores.compute()
    kept = {name: round(scores[name], 4) for name in ("miou", "mean_dice", "pixel_accuracy")}
    return {**kept, "seconds": round(time.perf_counter() - begin, 1)}


def main() -> None:
    """Parses the flags, trains, and prints one line of JSON per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", required=True, help="the folder with CamVid's train/, trainannot/, val/ and valannot/"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="RECIPE", help="names of recipes, as printed")
    flags = parser.parse_args()
    chosen = {name: changes for name, changes in recipes().items() if not flags.only or name in flags.only}
    if not chosen:
        parser.error(f"--only: unknown recipe; known are {', '.join(recipes())}")
    for seed in flags.seeds:
        for name, changes in chosen.items():
            scores = score(flags.root, changes, seed=seed, steps=flags.steps, size=tuple(flags.size))
            print(json.dumps({"recipe": name, "seed": seed, "steps": flags.steps, **scores}), flush=True)


if __name__ == "__main__":
    main()
