"""Makes the images of docs/gallery.md from a trained run and the test photographs of Oxford-IIIT Pet.

    python docs/gallery.py --model=RUN --data=DIR

RUN is the directory of a run, as the page trains it; DIR holds the dataset's folders images/ and annotations/. What is
shown is chosen by score, not by hand. The photographs are CC BY-SA 4.0 (Parkhi et al. 2012), so the images made of them
are, too: docs/images/LICENSE.txt lists them.
"""

import argparse
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import flaxseg
from flaxseg import compile_cache
from flaxseg.data import DATASETS, IGNORE_LABEL
from flaxseg.metrics import mean_iou
from flaxseg.report.drawing import append_legend, colorize, overlay

IMAGES = Path(__file__).resolve().parent / "images"
HEIGHT, WIDTH = 210, 280
"""The height in pixels of a panel, and the width of the panels of a table."""

GAP = 6
MAGMA = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
"""Colors of Matplotlib's map of this name, at equal distances."""

LICENSE = """\
The images in this folder were made by docs/gallery.py from photographs and annotations of the Oxford-IIIT Pet dataset:

  O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar: Cats and Dogs. IEEE Conference on Computer Vision and Pattern
  Recognition, 2012. https://www.robots.ox.ac.uk/~vgg/data/pets/

The dataset is available under the Creative Commons Attribution-ShareAlike 4.0 International License,
https://creativecommons.org/licenses/by-sa/4.0/. Photographs were resized, joined, and drawn over with predictions; the
images in this folder are available under the same license, unlike the rest of this repository.

Photographs in each image:
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """A photograph with its label, its prediction and its score.

    Attributes:
      name: the name of the photograph in the dataset.
      image: uint8[H, W, 3].
      label: uint8[H, W].
      prediction: uint8[H, W].
      score: the mean IoU of this image alone.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    score: float


def predicted(model: flaxseg.Predictor, data: str) -> list[Result]:
    """Returns the results on the test photographs, from the worst to the best."""
    source = DATASETS["oxford_iiit_pet"]("test", data_dir=data).source
    examples = [source[index] for index in range(len(source))]
    predictions = model([example["image"] for example in examples])
    results = []
    for example, prediction in zip(examples, predictions, strict=True):
        label, classes = example["label"], len(model.classes)
        valid = label != IGNORE_LABEL
        pairs = label[valid].astype(np.int64) * classes + prediction[valid]
        counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        results.append(Result(example["id"], example["image"], label, prediction, mean_iou(counts)))
    return sorted(results, key=lambda result: result.score)


def at_quantiles(results: Sequence[Result], quantiles: Sequence[float]) -> list[Result]:
    """Returns the results at these quantiles of the score."""
    return [results[round(quantile * (len(results) - 1))] for quantile in quantiles]


def panel(image: np.ndarray, text: str = "", *, width: int = 0) -> np.ndarray:
    """Returns an image at the height of a panel, or in a white panel of this width, with a text in the upper left."""
    scale = HEIGHT / image.shape[0]
    if width:
        scale = min(scale, width / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    resized = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    if text:
        draw, font = ImageDraw.Draw(resized), ImageFont.load_default(13)
        draw.rectangle((0, 0, font.getlength(text) + 8, 19), fill="black")
        draw.text((4, 2), text, fill="white", font=font)
    frame = Image.new("RGB", (width or size[0], HEIGHT), "white")
    frame.paste(resized, ((frame.width - size[0]) // 2, (HEIGHT - size[1]) // 2))
    return np.asarray(frame)


def joined(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Returns panels side by side in rows, with white gaps; shorter rows end in white."""
    strips = [np.concatenate([_margin(image, 1) for image in row], axis=1)[:, :-GAP] for row in rows]
    width = max(strip.shape[1] for strip in strips)
    filled = [np.pad(strip, ((0, GAP), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    return np.concatenate(filled)[:-GAP]


def _margin(image: np.ndarray, axis: int) -> np.ndarray:
    return np.pad(image, [(0, GAP if at == axis else 0) for at in range(3)], constant_values=255)


def overlays(model: flaxseg.Predictor, results: Sequence[Result]) -> tuple[np.ndarray, list[Result]]:
    """Returns four photographs above what `flaxseg predict --overlay` draws."""
    chosen = at_quantiles(results, (0.95, 0.75, 0.5, 0.25))
    drawn = [overlay(result.image, result.prediction, model.palette, opacity=0.5) for result in chosen]
    texts = [f"IoU {result.score:.2f}" for result in chosen]
    rows = [[panel(result.image) for result in chosen], [panel(*pair) for pair in zip(drawn, texts, strict=True)]]
    return append_legend(joined(rows), model.classes, model.palette), chosen


def best_and_worst(model: flaxseg.Predictor, results: Sequence[Result]) -> tuple[np.ndarray, list[Result]]:
    """Returns the two best and the three worst results: photograph, label, prediction and errors."""
    chosen = [results[-1], results[-2], results[2], results[1], results[0]]
    rows = []
    for result in chosen:
        wrong = (result.prediction != result.label) & (result.label != IGNORE_LABEL)
        gray = result.image.mean(-1, keepdims=True).repeat(3, -1) * 0.6 + 60
        errors = np.where(wrong[..., None], (220, 30, 50), gray).astype(np.uint8)
        maps = [colorize(result.label, model.palette), colorize(result.prediction, model.palette), errors]
        texts = ("label", f"prediction, IoU {result.score:.2f}", f"errors, {wrong.mean():.0%}")
        drawn = zip((result.image, *maps), ("", *texts), strict=True)
        rows.append([panel(*each, width=WIDTH) for each in drawn])
    return append_legend(joined(rows), model.classes, model.palette), chosen


def uncertainty(model: flaxseg.Predictor, results: Sequence[Result]) -> tuple[np.ndarray, list[Result]]:
    """Returns three photographs with their predictions and the entropy of each pixel's probabilities."""
    chosen = at_quantiles(results, (0.8, 0.4, 0.1))
    rows = []
    for result in chosen:
        entropy = model.uncertainty(result.image) / np.log(len(model.classes))
        colors = [np.interp(entropy, np.linspace(0, 1, len(MAGMA)), channel) for channel in zip(*MAGMA, strict=True)]
        heat = np.stack(colors, axis=-1).astype(np.uint8)
        drawn = overlay(result.image, result.prediction, model.palette, opacity=0.5)
        shown = ((result.image, ""), (drawn, f"IoU {result.score:.2f}"), (heat, "entropy"))
        rows.append([panel(*each, width=WIDTH) for each in shown])
    return joined(rows), chosen


def large(model: flaxseg.Predictor, results: Sequence[Result]) -> tuple[np.ndarray, list[Result]]:
    """Returns a wall of twenty photographs, predicted in tiles as one image, at half its size."""
    (height, width), _ = collections.Counter(result.label.shape for result in results).most_common(1)[0]
    fit = [
        result
        for result in results
        if height <= result.label.shape[0] < 1.2 * height and result.label.shape[1] == width
    ]
    chosen = sorted(fit, key=lambda result: result.name)[:: max(len(fit) // 20, 1)][:20]
    rows = [chosen[at : at + 5] for at in range(0, len(chosen) - 4, 5)]
    wall = np.concatenate([np.concatenate([result.image[:height] for result in row], axis=1) for row in rows])
    drawn = overlay(wall, model(wall), model.palette, opacity=0.5)
    size = (wall.shape[1] // 2, wall.shape[0] // 2)
    return np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.LANCZOS)), chosen[: 5 * len(rows)]


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the images, and the photographs that each consists of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="RUN", help="the directory of a run")
    parser.add_argument("--data", required=True, metavar="DIR", help="the dataset's folder")
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR", help="default: docs/images")
    arguments = parser.parse_args(argv)
    compile_cache.enable()
    model = flaxseg.load(arguments.model)
    results = predicted(model, arguments.data)
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = []
    for make in (overlays, best_and_worst, uncertainty, large):
        image, chosen = make(model, results)
        path = arguments.output / f"{make.__name__}.jpg"
        Image.fromarray(image).save(path, quality=82, optimize=True, progressive=True)
        lines.append(f"\n  {path.name}: {', '.join(result.name for result in chosen)}")
        print(f"{path}: {image.shape[1]} x {image.shape[0]} pixels, {path.stat().st_size / 1000:.0f} kB")
    (arguments.output / "LICENSE.txt").write_text(LICENSE + "".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
