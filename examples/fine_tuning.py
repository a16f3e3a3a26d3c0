"""Fine-tuning: training on other data and other classes, from the weights of a trained network.

    python examples/fine_tuning.py runs/shapes
    python examples/fine_tuning.py hf:smp-hub/segformer-b0-512x512-ade-160k

`model.pretrained` names a run, a file of weights, or a public network: a repository of the Hugging Face hub, or a
folder in the layout of segmentation_models_pytorch or transformers. Without an argument, a short run is made first.
"""

import sys
from pathlib import Path

import numpy as np

from flaxseg import IGNORE_LABEL, SegmentationDataset
from flaxseg.config.files import load_config
from flaxseg.data import MappedSource, shapes
from flaxseg.models.pretrained.public_source import is_public
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.result import Result

CLASSES = ("background", "figure", "border")


def figures(split: str, *, count: int = 64) -> SegmentationDataset:
    """Returns a small dataset of three classes: discs, squares and triangles are one class."""
    merged = np.full(256, IGNORE_LABEL, np.uint8)
    merged[:5] = (0, 1, 1, 1, 2)
    source = MappedSource(shapes(split, count=count, seed=1).source, lambda label: merged[label])
    return SegmentationDataset(source, 3, CLASSES, ((40, 40, 40), (80, 160, 240), (240, 200, 80)))


def train_source(folder: str) -> str:
    """Trains on the built-in shapes, and returns the directory of the run."""
    run = str(Path(folder, "source"))
    train_and_evaluate(load_config("shapes", ["train.steps=200", "model.options.width=8", "log.images=0"]), run)
    return run


def fine_tune(source: str, workdir: str, steps: int, *, size: int = 64) -> Result:
    """Trains from the weights of a network, at a lower learning rate, because they are already good.

    With `optimizer.freeze=('encoder',)` an encoder would not be trained at all, and with
    `optimizer.lr_scale=(('encoder',0.1),)` at a tenth of the rate.
    """
    values: dict[str, object] = {
        "data.name": "fine_tuning:figures",
        "data.eval_split": "val",
        "data.image_size": (size, size),
        "model.pretrained": source,
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup_steps": min(5, steps - 1),
        "train.steps": steps,
        "eval.every": steps,
    }
    if is_public(source):
        # It fills in `model.name` and `model.options`, and only a head with another number of classes starts anew.
        file, values["model.options"] = "folder", {}
    else:
        # The configuration of the run names the same network; its head, of five classes, does not fit and starts anew.
        file, values["data.options"], values["model.pretrained_partial"] = source, {}, True
    config = load_config(file, [f"{key}={value}" for key, value in values.items()])
    return train_and_evaluate(config, workdir)


def main(source: str = "", folder: str = "runs/fine_tuning", steps: int = 50, *, size: int = 64) -> Result:
    """Fine-tunes a network, or one that it trains first, prints the scores, and returns the result of the run."""
    result = fine_tune(source or train_source(folder), f"{folder}/run", steps, size=size)
    print(result.table())
    return result


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
