"""A trained network, ready to use: `model = flaxseg.load("runs/pet"); mask = model(image)`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.evaluation import eval_batches
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.deploy.evaluation import check_same_classes, score_batches
from flaxseg.deploy.images import ImageReader, NetworkImage
from flaxseg.deploy.network import Network, Prediction
from flaxseg.deploy.saved import SavedModel, read_model
from flaxseg.errors import POSITIVE, check_choice, check_integer
from flaxseg.inference.blending import Windows
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.inference.tiling import ImageLike, Tiling, Writable
from flaxseg.metrics import METRICS


def load(
    path: str | Path,
    *,
    step: int | None = None,
    tile: int | tuple[int, int] | None = None,
    tiling: str | Tiling = "auto",
    batch_size: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> "Predictor":
    """Returns a trained network, ready to use. It needs neither the configuration nor the data of its run.

    Args:
      path: the directory of a run, of its checkpoints or of one of them; an exported folder, which holds model.json and
        model.safetensors; or a file of weights beside a model.json.
      step: the step of a run's checkpoint; None takes the best one, or the latest if none has scores.
      tile: height and width of the tiles of a network that keeps the scale of images; one number for both. None takes
        the size of the images that it was trained on.
      tiling: "blend", "exact", "auto" (which is "blend"), or a tiling of `flaxseg.inference.tiling`.
      batch_size: the number of images of a list, or of tiles of an image, that are predicted at once.
      max_megapixels: images of more million pixels are rejected before they are decoded.

    Raises:
      WeightsError: there is nothing of this kind, it is damaged, or the weights are those of another network.
      ArgumentError: an argument out of its range.
    """
    saved = read_model(path, step=step)
    return Predictor(saved, tile=tile, tiling=tiling, batch_size=batch_size, max_megapixels=max_megapixels)


class Predictor:
    """A trained network that predicts images of any size; `load` returns one.

    Images are prepared exactly as the evaluation of its training prepared them, and the logits are resized to each
    image's own size before the most likely class is chosen, so that predictions are what the evaluation scored.

    Attributes:
      saved: the network, its weights, its description, and where they come from.
      reader: brings images to the form that the network takes.

    Args:
      saved: from `read_model`.
      tile: height and width of the tiles of a network that keeps the scale of images; one number for both. None takes
        the size of the images that it was trained on.
      tiling: "blend", "exact", "auto" (which is "blend"), or a tiling of `flaxseg.inference.tiling`.
      batch_size: the number of images of a list, or of tiles of an image, that are predicted at once.
      max_megapixels: images of more million pixels are rejected before they are decoded.
    """

    def __init__(
        self,
        saved: SavedModel,
        *,
        tile: int | tuple[int, int] | None = None,
        tiling: str | Tiling = "auto",
        batch_size: int = 1,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        check_integer("batch_size", batch_size, 1)
        POSITIVE.check("max_megapixels", max_megapixels)
        self.saved = saved
        self.reader = ImageReader(saved.description, max_megapixels)
        self._network = Network(saved, batch_size=batch_size, tile=tile, tiling=tiling)

    @property
    def description(self) -> ModelDescription:
        """What the network needs besides its weights."""
        return self.saved.description

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class."""
        return self.description.class_names

    @property
    def palette(self) -> tuple[Color, ...]:
        """The color of each class, `(red, green, blue)` in 0..255."""
        return self.description.palette

    def __repr__(self) -> str:
        described = self.description
        return f"Predictor({self.saved.name}: {described.name}, {described.num_classes} classes)"

    def __call__(self, image: Any) -> Any:
        """Returns the most likely class of each pixel, uint8[H, W], at the image's own size.

        Args:
          image: the path of a file; a Pillow image; an array [H, W] or [H, W, C] of uint8, or of float in 0..255; or a
            list of these, for a list of results.

        Raises:
          DataError: a file cannot be read or decoded, or has another number of channels than the network.
          ArgumentError: something else than an image, or values out of range.
        """
        if isinstance(image, list | tuple):
            return [prediction.label for prediction in self.predict(map(self.reader, image))]
        return next(self.predict([self.reader(image)])).label

    def probabilities(self, image: Any) -> Any:
        """Returns the probability of each class in each pixel, float32[H, W, K], at the image's own size.

        Args:
          image: as for a call; a list for a list of results.
        """
        given = image if isinstance(image, list | tuple) else [image]
        found = [each.probabilities for each in self.predict(map(self.reader, given), probabilities=True)]
        return found if isinstance(image, list | tuple) else found[0]

    def overlay(self, image: Any, *, alpha: float = 0.4) -> np.ndarray:
        """Returns an image with the predicted classes drawn over it in their colors, uint8[H, W, 3].

        Args:
          image: as for a call, but no list.
          alpha: the opacity of the colors, 0..1.
        """
        from flaxseg.report.drawing import overlay  # Matplotlib, which it imports, takes long to load.

        return overlay(self.reader.original(image), self(image), self.palette, opacity=alpha)

    def predict(self, images: Iterable[NetworkImage], *, probabilities: bool = False) -> Iterator[Prediction]:
        """Yields the prediction for each image, in order; the device computes a batch while the last is fetched.

        Args:
          images: from `reader`. Consecutive ones of the same shape and dtype are predicted together.
          probabilities: compute probabilities, too.
        """
        return self._network.predict(images, probabilities=probabilities)

    def predict_into(self, image: ImageLike, out: Writable) -> None:
        """Predicts an image that may be larger than memory, tile by tile.

        Args:
          image: [H, W, C] with values 0..255 and the network's number of channels; anything that has a shape and can be
            sliced, such as a memory map.
          out: anything that slices of rows and columns can be assigned to, such as a memory map uint8[H, W]; receives
            the most likely class of each pixel.

        Raises:
          ArgumentError: the network was trained on images that were resized or rescaled.
        """
        self._network.predict_into(image, out)

    def evaluate(
        self,
        dataset: SegmentationDataset,
        *,
        metrics: Sequence[str] = (),
        resolution: str = "native",
        batch_size: int = 8,
        num_threads: int = -1,
    ) -> EvalMetrics:
        """Returns the scores of the network on a dataset, equal to those of its training's own evaluation.

        Args:
          dataset: a dataset with the classes of the network, in the same order.
          metrics: names of `flaxseg.metrics.METRICS` to measure beside the confusion matrix.
          resolution: "native" scores each image at its own size, "image_size" at the size that it is resized to.
          batch_size: the number of images that are predicted at once.
          num_threads: the number of threads that read images; -1: one per core.

        Raises:
          ArgumentError: a dataset of another number of classes, or in another order; an unknown metric.
          DataError: an example cannot be read.
        """
        for name in metrics:
            check_choice("metrics", name, METRICS)
        check_choice("resolution", resolution, ("native", "image_size"))
        check_same_classes(self.description, dataset)
        keep = self.description.resize == "keep"
        scale = self.description.scale if keep else None
        batches = eval_batches(
            dataset,
            image_size=self.description.image_size,
            batch_size=batch_size,
            native=resolution == "native",
            scale=scale,
        )
        return score_batches(
            self._network.logits,
            batches,
            windows=Windows(self.description.image_size) if keep else None,
            scale=scale,
            metrics=metrics,
            num_threads=num_threads,
        )
