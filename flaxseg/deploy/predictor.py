"""A trained network, ready to use: `model = flaxseg.load("runs/pet"); mask = model(image)`."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.deploy.evaluation import Evaluator, check_same_classes
from flaxseg.deploy.images import ImageReader, NetworkImage
from flaxseg.deploy.members import check_members
from flaxseg.deploy.network import Network
from flaxseg.deploy.outputs import UNCERTAINTIES, Prediction
from flaxseg.deploy.saved import SavedModel, read_model
from flaxseg.deploy.tiles import Tiles
from flaxseg.errors import POSITIVE, ArgumentError, check_choice, check_integer
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.inference.tiling import BLEND, BlendTiling, ExactTiling, ImageLike, Tiling, Writable
from flaxseg.inference.tta import NO_TTA, TTA
from flaxseg.metrics import METRICS


def load(
    path: str | Path | Sequence[str | Path],
    *,
    step: int | None = None,
    accept_license: bool = False,
    scales: Sequence[float] = (1.0,),
    flips: Sequence[str] = (),
    tile: int | tuple[int, int] | None = None,
    tiling: str | Tiling = "blend",
    halo: int | None = None,
    batch_size: int = 1,
    fold: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> "Predictor":
    """Returns a trained network, ready to use. It needs neither the configuration nor the data of its run.

    Args:
      path: the directory of a run, of its checkpoints or of one of them; an exported folder, which holds model.json and
        model.safetensors; a file of weights beside a model.json; `hf:owner/name` or `hf:owner/name@revision`, a
        repository of the Hugging Face hub; a folder in the layout of segmentation_models_pytorch or transformers; or a
        file of torchvision's segmentation networks.
        A list of these gives an ensemble, whose members' probabilities are averaged.
      step: the step of a run's checkpoint; None takes the best one, or the latest if none has scores.
      accept_license: accept a license of published weights that is non-commercial or custom.
      scales: for test-time augmentation, factors of height and width, such as (0.75, 1.0, 1.25). The probabilities of
        all copies of an image are averaged.
      flips: for test-time augmentation, "horizontal", "vertical" or "both" (a rotation by 180 degrees); each doubles
        the computation of an image that is predicted once.
      tile: height and width of the tiles of a network that keeps the scale of images; one number for both. None takes
        the size of the images that it was trained on, or, for exact tiles, the largest that half of the free memory
        allows.
      tiling: "blend", which averages overlapping tiles; "exact", whose result equals that of the whole image, for
        networks where this is possible; or a tiling of `flaxseg.inference.tiling`.
      halo: the pixels from the border of an exact tile that are dropped; None takes as many as the network needs. Fewer
        are faster and no longer exact; `Predictor.tiles.note` tells by how much.
      batch_size: the number of images of a list, or of tiles of an image, that are predicted at once.
      fold: fold batch normalization into the convolutions, which rounds differently; with False, predictions equal
        those of the evaluation to the last bit. `Predictor.evaluate` never folds it.
      max_megapixels: images of more million pixels are rejected before they are decoded.

    Raises:
      WeightsError: there is nothing of this kind, it cannot be downloaded, it is damaged, the weights are those of
        another network, or their license has to be accepted.
      ArgumentError: an argument out of its range, or networks that do not go together.
      NotLocal: "exact" tiles for a network that needs the whole image; the message names the layer.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    return Predictor(
        [read_model(each, step=step, accept_license=accept_license) for each in paths],
        tta=TTA(tuple(scales), tuple(flips)),
        tile=tile,
        tiling=tiling,
        halo=halo,
        batch_size=batch_size,
        fold=fold,
        max_megapixels=max_megapixels,
    )


class Predictor:
    """A trained network, or an ensemble of several, that predicts images of any size; `load` returns one.

    Images are prepared exactly as the evaluation of its training prepared them, and the logits are resized to each
    image's own size before the most likely class is chosen, so that predictions are what the evaluation scored, up to
    the rounding of folded batch normalization.

    Attributes:
      members: the networks, their weights, their descriptions, and where they come from.
      reader: brings images to the form that the network takes.

    Args:
      members: from `read_model`.
      tta: the copies of an image whose probabilities are averaged.
      tile: as for `load`.
      tiling: as for `load`.
      halo: as for `load`.
      batch_size: as for `load`.
      fold: as for `load`.
      max_megapixels: as for `load`.
    """

    def __init__(
        self,
        members: Sequence[SavedModel],
        *,
        tta: TTA = NO_TTA,
        tile: int | tuple[int, int] | None = None,
        tiling: str | Tiling = "blend",
        halo: int | None = None,
        batch_size: int = 1,
        fold: bool = True,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        check_integer("batch_size", batch_size, 1)
        POSITIVE.check("max_megapixels", max_megapixels)
        check_members(members)
        self.members = tuple(members)
        self.reader = ImageReader(self.description, max_megapixels)
        self._network = Network(members, batch_size=batch_size, tile=tile, tiling=tiling, halo=halo, tta=tta, fold=fold)

    @property
    def name(self) -> str:
        """Where the network comes from, such as `runs/pet (step 700)`; the members of an ensemble joined by `+`."""
        return " + ".join(member.name for member in self.members)

    def digest(self) -> str:
        """Returns a digest of the networks, the copies of images and the tiles, 32 hexadecimal digits."""
        tiles = self.tiles
        # Exact tiles of every size give the same.
        size = None if isinstance(tiles.tiling, ExactTiling) else tiles.size
        parts = [member.digest() for member in self.members], self._network.tta, tiles.tiling, size
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    @property
    def tiles(self) -> Tiles:
        """How images larger than a tile are predicted by a network that keeps their scale."""
        return self._network.tiles

    @property
    def description(self) -> ModelDescription:
        """What the network needs besides its weights; of an ensemble, the first member's."""
        return self.members[0].description

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
        return f"Predictor({self.name}: {described.name}, {described.num_classes} classes)"

    def __call__(self, image: Any) -> Any:
        """Returns the most likely class of each pixel, uint8[H, W], at the image's own size.

        Args:
          image: the path of a file; a Pillow image; an array [H, W] or [H, W, C] of uint8, or of float in 0..255; or a
            list of these, for a list of results.

        Raises:
          DataError: a file cannot be read or decoded, or has another number of channels than the network.
          ArgumentError: not an image, or values out of range.
        """
        if isinstance(image, list | tuple):
            return [prediction.label for prediction in self.predict(map(self.reader, image))]
        return next(self.predict([self.reader(image)])).label

    def probabilities(self, image: Any) -> Any:
        """Returns the probability of each class in each pixel, float32[H, W, K], at the image's own size.

        Args:
          image: as for a call; a list for a list of results.
        """
        return self._map(image, "probabilities")

    def uncertainty(self, image: Any, kind: str = "entropy") -> Any:
        """Returns how uncertain the prediction of each pixel is, float32[H, W], at the image's own size.

        Args:
          image: as for a call; a list for a list of results.
          kind: "entropy", of the probabilities, from 0 to log(K) nats; "margin", the difference of the two largest
            probabilities, which is small where the prediction is uncertain; or "disagreement" of the members of an
            ensemble, in nats. See `flaxseg.inference.uncertainty`.

        Raises:
          ArgumentError: an unknown kind, or "disagreement" of a single network.
        """
        self.check_uncertainty(kind)
        return self._map(image, kind)

    def check_uncertainty(self, kind: str) -> None:
        """Raises ArgumentError for an unknown kind of uncertainty, and for "disagreement" of a single network."""
        check_choice("kind", kind, UNCERTAINTIES)
        if kind == "disagreement" and len(self.members) == 1:
            raise ArgumentError("kind", kind, "needs an ensemble; load several networks, or use 'entropy'")

    def _map(self, image: Any, name: str) -> Any:
        given = image if isinstance(image, list | tuple) else [image]
        found = [each.maps[name] for each in self.predict(map(self.reader, given), maps=(name,))]
        return found if isinstance(image, list | tuple) else found[0]

    def overlay(self, image: Any, *, alpha: float = 0.4) -> np.ndarray:
        """Returns an image with the predicted classes drawn over it in their colors, uint8[H, W, 3].

        Args:
          image: as for a call, but no list.
          alpha: the opacity of the colors, 0..1.
        """
        from flaxseg.report.drawing import overlay  # Matplotlib, which it imports, takes long to load.

        return overlay(self.reader.original(image), self(image), self.palette, opacity=alpha)

    def predict(self, images: Iterable[NetworkImage], *, maps: Sequence[str] = ()) -> Iterator[Prediction]:
        """Yields the prediction for each image, in order; the device computes a batch while the last is fetched.

        Args:
          images: from `reader`. Consecutive ones of the same shape and dtype are predicted together.
          maps: what to compute in addition to the classes: "probabilities", or a kind of `uncertainty`.
        """
        return self._network.predict(images, maps=maps)

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
        whole: bool = False,
        batch_size: int = 8,
        num_threads: int = -1,
    ) -> EvalMetrics:
        """Returns the scores of the network on a dataset.

        Those of a single network without test-time augmentation are equal to those of its training's own evaluation.

        Args:
          dataset: a dataset with the classes of the network, in the same order.
          metrics: names of `flaxseg.metrics.METRICS` to compute in addition to the confusion matrix.
          resolution: "native" scores each image at its own size, "image_size" at the size that it is resized to.
          whole: predict whole images, each alone, where the network keeps their scale; otherwise they are predicted in
            blended tiles.
          batch_size: the number of images that are predicted at once.
          num_threads: the number of threads that read images; -1: one per core.

        Raises:
          ArgumentError: a dataset of another number of classes, or in another order; an unknown metric; exact tiles,
            whose scores are those of whole images.
          DataError: an example cannot be read.
        """
        for name in metrics:
            check_choice("metrics", name, METRICS)
        check_same_classes(self.description, dataset)
        return self._evaluator(resolution, whole, batch_size, num_threads).scores(dataset, metrics)

    def evaluated_labels(
        self,
        dataset: SegmentationDataset,
        indices: Iterable[int],
        *,
        resolution: str = "native",
        whole: bool = False,
        batch_size: int = 8,
    ) -> Iterator[np.ndarray]:
        """Yields the classes, uint8[h, w], that `evaluate` predicts for some examples and compares with their labels.

        Args:
          dataset: as for `evaluate`.
          indices: of the examples.
          resolution: as for `evaluate`; the size h, w is that of the label, or the size that images are resized to.
          whole: as for `evaluate`.
          batch_size: as for `evaluate`.

        Raises:
          ArgumentError, DataError: as for `evaluate`.
        """
        check_same_classes(self.description, dataset)
        return self._evaluator(resolution, whole, batch_size, num_threads=0).predictions(dataset, indices)

    def _evaluator(self, resolution: str, whole: bool, batch_size: int, num_threads: int) -> Evaluator:
        check_choice("resolution", resolution, ("native", "image_size"))
        keep, tiling = self.description.resize == "keep", self.tiles.tiling
        if keep and not whole and not isinstance(tiling, BlendTiling):
            raise ArgumentError("whole", whole, "must be True with exact tiles, which give the scores of whole images")
        return Evaluator(
            self._network.exact,
            image_size=self.description.image_size if not keep or whole else self.tiles.size,
            batch_size=batch_size,
            native=resolution == "native",
            tile=self.tiles.size if keep and not whole else None,
            tiling=tiling if isinstance(tiling, BlendTiling) else BLEND,
            stride=self._network.stride,
            scale=self.description.scale if keep else None,
            num_threads=num_threads,
        )
