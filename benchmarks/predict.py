"""Times `flaxseg.predict` on a folder of images against the bare network and decoding, which it cannot be faster than.

    python benchmarks/predict.py --input=DIR
    python benchmarks/predict.py --input=DIR --model=unet --batch_size=8 --peer=PYTHON

The network has random weights. Both read with the same threads; the bare one writes nothing, and does not resize logits
to the images' own sizes. The two alternate, and the ratio of their medians is the result.
"""

import argparse
import functools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxseg.data.masks.palette import default_palette
from flaxseg.data.sources.files import read_file
from flaxseg.data.threads import read_ahead
from flaxseg.deploy.network import Network
from flaxseg.deploy.predict_files import predict_files
from flaxseg.deploy.prediction_files import PredictionFiles
from flaxseg.deploy.prediction_inputs import InputImage, find_images
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.saved import SavedModel
from flaxseg.inference.description import ModelDescription, resolved_options
from flaxseg.models import build_model


def saved_model(name: str, size: int, classes: int) -> SavedModel:
    """Returns a network with random weights."""
    model = build_model(name, num_classes=classes)
    description = ModelDescription(
        name=name,
        options=resolved_options(name, {}),
        num_classes=classes,
        channels=3,
        image_size=(size, size),
        class_names=tuple(map(str, range(classes))),
        palette=default_palette(classes),
        mean=model.mean,
        std=model.std,
    )
    init = jax.jit(functools.partial(model.init, train=False))
    variables = jax.device_get(init(jax.random.key(0), np.zeros((1, size, size, 3), np.float32)))
    return SavedModel("random", description, model, dict(variables))


def bare(network: Network, model: Predictor, images: list[InputImage], batch_size: int) -> None:
    """Decodes the images and computes their logits."""
    read = lambda image: model.reader.decode(read_file(image.path), name=image.path).pixels  # noqa: E731
    batch: list[np.ndarray] = []
    last: Any = None
    for pixels in read_ahead(images, read, num_threads=-1):
        batch.append(pixels)
        if len(batch) == batch_size:
            logits = network.logits(np.stack(batch))
            if last is not None:
                jax.block_until_ready(last)
            last, batch = logits, []
    jax.block_until_ready(last)


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds that a function takes, by the clock and of all cores together."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def peer(arguments: argparse.Namespace, output: Path) -> tuple[float, float]:
    """Returns the seconds of the PyTorch script on the same images, by the clock and of all cores together."""
    script = Path(__file__).parent / "peers" / "torch_predict.py"
    flags = [f"--{name}={getattr(arguments, name)}" for name in ("input", "model", "size", "batch_size")]
    command = [arguments.peer, str(script), f"--output={output}", *flags]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found["wall"], found["cpu"]


def main() -> None:
    """Prints the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="folder of images")
    parser.add_argument("--model", default="plain_unet", help="name of the network (default: plain_unet)")
    parser.add_argument("--size", type=int, default=128, help="height and width of the network's images (default: 128)")
    parser.add_argument("--batch_size", type=int, default=1, help="images at once (default: 1)")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="also run peers/torch_predict.py in turn, with this interpreter"
    )
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each (default: 3)")
    arguments = parser.parse_args()
    saved = saved_model(arguments.model, arguments.size, classes=3)
    model = Predictor([saved], batch_size=arguments.batch_size)
    network = Network([saved], batch_size=arguments.batch_size)
    images = find_images([arguments.input], output=Path(os.devnull))
    images = images[: len(images) // arguments.batch_size * arguments.batch_size]
    times: dict[str, list[tuple[float, float]]] = {
        "bare": [],
        "predict": [],
        **({"peer": []} if arguments.peer else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(arguments.repeat + 1):  # The first round compiles.
            files = PredictionFiles(Path(folder) / str(round_number), model.classes, model.palette)
            times["bare"].append(seconds(lambda: bare(network, model, images, arguments.batch_size)))
            times["predict"].append(seconds(lambda files=files: predict_files(model, images, files)))  # type: ignore[misc]
            if arguments.peer:
                times["peer"].append(peer(arguments, Path(folder) / f"peer{round_number}"))
    medians = {name: np.median(each[1:], axis=0) for name, each in times.items()}
    for name, (wall, cpu) in medians.items():
        print(f"{name:<8} {len(images) / wall:8.1f} images/s, {1000 * cpu / len(images):6.1f} ms of CPU time per image")
    wall, cpu = medians["bare"] / medians["predict"]
    print(f"predict reaches {wall:.0%} of the rate of the bare network and decoding, and {cpu:.0%} by CPU time")
    if arguments.peer:
        wall, cpu = medians["peer"] / medians["predict"]
        print(f"predict is {wall:.2f} times as fast as PyTorch, and {cpu:.2f} times by CPU time")


if __name__ == "__main__":
    main()
