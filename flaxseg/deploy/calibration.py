"""Fits the temperature of a trained network on a dataset, so that its probabilities are calibrated."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset
from flaxseg.deploy.evaluation import check_same_classes
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import DataError
from flaxseg.inference.uncertainty import fit_temperature

MAX_PIXELS = 500_000
"""The number of pixels of a whole dataset that a temperature is fitted to, which determine it to about a percent."""


def calibrated(saved: SavedModel, dataset: SegmentationDataset) -> SavedModel:
    """Returns a network with the temperature that makes its probabilities most likely on a dataset.

    Its classes stay the same; see `uncertainty.fit_temperature`. The dataset must not be the one that it was trained
    on, where networks are too certain for good reason.

    Args:
      saved: the network.
      dataset: a dataset with the classes of the network, such as its evaluation split. A fixed random sample of the
        pixels of each image is used, at the image's own size.

    Raises:
      ArgumentError: a dataset of another number of classes, or in another order.
      DataError: an example cannot be read, or all pixels of the dataset are ignored.
    """
    check_same_classes(saved.description, dataset)
    plain = dataclasses.replace(saved, description=dataclasses.replace(saved.description, temperature=1.0))
    samples = list(_samples(Predictor([plain]), dataset))
    logits, labels = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    if not len(labels):
        raise DataError("every pixel of the dataset is ignored; calibrate on images with labels")
    temperature = float(fit_temperature(jnp.asarray(logits), jnp.asarray(labels)))
    return dataclasses.replace(saved, description=dataclasses.replace(saved.description, temperature=temperature))


def _samples(model: Predictor, dataset: SegmentationDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the logits, up to a constant of each pixel, float32[n, K], and the labels, uint8[n], of each image."""
    source = dataset.source
    count = max(MAX_PIXELS // len(source), 1)
    for index in tqdm(range(len(source)), desc="calibrate", unit="image", leave=False, disable=None):
        example = source[index]
        label = example["label"].ravel()
        valid = np.flatnonzero(label != IGNORE_LABEL)
        if len(valid) > count:
            valid = np.sort(np.random.default_rng(index).choice(valid, count, replace=False))
        probabilities = model.probabilities(example["image"])
        chosen = probabilities.reshape(-1, probabilities.shape[-1])[valid]
        yield np.log(np.maximum(chosen, np.finfo(np.float32).tiny)), label[valid]
