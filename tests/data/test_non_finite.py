"""An image with NaN or infinity is named when it is read, whatever it comes from, and never reaches a network."""

import numpy as np
import pytest
from encoded_files import npy, tiff
from list_source import ListSource
from PIL import Image

from flaxseg.data import SegmentationDataset, folder
from flaxseg.data.decode.intensities import check_value_range
from flaxseg.data.evaluation import eval_batches
from flaxseg.data.pipeline import train_batches
from flaxseg.data.statistics import compute_statistics
from flaxseg.errors import ArgumentError, DataError


def bad_image(value):
    image = np.full((8, 8, 3), 0.5, np.float32)
    image[2, 3, 1] = image[5, 0, 0] = value
    return image


def from_memory(image, tmp_path):
    examples = [{"image": image, "label": np.zeros((8, 8), np.uint8), "id": "the bad one"}]
    return SegmentationDataset(ListSource(examples), 2, ("a", "b"), ((0, 0, 0), (1, 1, 1))), "the bad one"


def from_folder(encode, suffix):
    def make(image, tmp_path):
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / "bad.png")
        path = tmp_path / "images" / f"bad.{suffix}"
        path.write_bytes(encode(image))
        options = {"values": (0, 1), "val_fraction": 0.0, "value_range": (0.0, 1.0)}
        return folder("train", data_dir=str(tmp_path), **options), str(path)

    return make


SOURCES = {
    "memory": from_memory,
    "tiff": from_folder(lambda image: tiff(image, photometric="rgb"), "tif"),
    "npy": from_folder(npy, "npy"),
}

READERS = {
    "training": lambda data: train_batches(data, canvas_size=(4, 4), batch_size=1, seed=0)[0],
    "training on crops": lambda data: train_batches(data, canvas_size=(4, 4), batch_size=1, seed=0, scale=1.0)[0],
    "training from a cache": lambda data: train_batches(data, canvas_size=(4, 4), batch_size=1, seed=0, cache="host")[
        0
    ],
    "evaluation": lambda data: eval_batches(data, image_size=(4, 4), batch_size=1, native=True)[0],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_image_the_count_and_the_remedy_are_named(tmp_path, source, value):
    dataset, name = SOURCES[source](bad_image(value), tmp_path)
    message = (
        f"{name}: 2 of its values (1.04%) are NaN or infinite; replace them by a finite number, and set these pixels "
        "of the mask to an ignored value (255)"
    )
    for read in READERS.values():
        with pytest.raises(DataError) as raised:
            read(dataset)
        assert str(raised.value) == message
    (problem,) = compute_statistics(dataset, num_threads=0).problems
    assert problem.message == message


@pytest.mark.parametrize("source", SOURCES)
def test_finite_images_pass(tmp_path, source):
    dataset, _ = SOURCES[source](bad_image(1.0), tmp_path)
    for read in READERS.values():
        assert np.isfinite(read(dataset)["image"]).all()


@pytest.mark.parametrize("value_range", [(-1e39, 1e39), (-3e38, 3e38), (2**24, 2**24 + 1), (0, np.inf), (0, 10**400)])
def test_a_value_range_that_float32_cannot_divide_by_is_refused(value_range):
    with pytest.raises(ArgumentError, match="must be \\(low, high\\) with low below high, also as float32 numbers"):
        check_value_range(value_range)
