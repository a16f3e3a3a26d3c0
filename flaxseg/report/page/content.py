"""What a report shows: scores and images, without any layout."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.types import Color
from flaxseg.metrics import Reliability


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """The scores of the images that have valid pixels.

    Attributes:
      ids: their names.
      iou: float64[N], the mean IoU over the classes of each image.
      dice: float64[N], likewise the mean Dice.
      sizes: int64[N, 2], height and width.
    """

    ids: Sequence[str]
    iou: np.ndarray
    dice: np.ndarray
    sizes: np.ndarray


@dataclasses.dataclass(frozen=True)
class ShownImage:
    """An image with its prediction.

    Attributes:
      id: its name.
      iou: the mean IoU over its classes.
      dice: the mean Dice.
      image: uint8 or float32[H, W, C] in 0..255.
      label: uint8[H, W], class indices or IGNORE_LABEL.
      prediction: uint8[h, w], class indices; resized to the label if it has another size.
    """

    id: str
    iou: float
    dice: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """A quantity over the steps of a run.

    Attributes:
      run: the name of the run.
      steps: int64[N], ascending.
      values: float64[N].
      step: the step of the checkpoint that the report is about; None if unknown.
    """

    run: str
    steps: np.ndarray
    values: np.ndarray
    step: int | None = None


@dataclasses.dataclass(frozen=True)
class PageContent:
    """What a report shows.

    Attributes:
      title: what was evaluated, such as `runs/pet (step 700)`.
      network: the network in a few words.
      data: the dataset and its split.
      created: the date.
      facts: what is known about the network and the evaluation, by the name of the fact.
      class_names: one name per class, K.
      palette: one color per class.
      scores: every score, by name.
      counts: int64[K, K], the pixels by true class (rows) and predicted class (columns).
      intervals: 95 % intervals; see `PerImage.intervals`.
      images: the scores of single images.
      images_of_class: int64[K], the number of images whose label contains a class.
      reliability: accuracy by confidence.
      worst: the images with the lowest IoU, the lowest first.
      best: the images with the highest IoU, the highest first.
      curves: of the runs that the network comes from, by title; empty if it comes from no run.
      licenses: the license of the weights of each network, by its name.
      versions: of the software, by the name of the package.
      command: the command that wrote the report; "" for none.
      config: the configuration; empty if there is none.
    """

    title: str
    network: str
    data: str
    created: str
    facts: Mapping[str, str]
    class_names: Sequence[str]
    palette: Sequence[Color]
    scores: Mapping[str, float]
    counts: np.ndarray
    intervals: Mapping[str, np.ndarray]
    images: ImageScores
    images_of_class: np.ndarray
    reliability: Reliability
    worst: Sequence[ShownImage] = ()
    best: Sequence[ShownImage] = ()
    curves: Mapping[str, Sequence[Curve]] = dataclasses.field(default_factory=dict)
    licenses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
