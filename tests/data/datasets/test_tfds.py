"""Datasets of TensorFlow Datasets are read by the names of their features; wrong names are reported."""

import functools
import io
import pathlib
import socket

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from flaxseg.data.datasets.tfds import tfds
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (5 + i, 7, 3), dtype=np.uint8) for i in range(6)]
MASKS = [RNG.integers(0, 3, (5 + i, 7), dtype=np.uint8) for i in range(6)]
SPLITS = {"train": range(4), "val": range(4, 6)}


def png(array: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return io.BytesIO(file.getvalue())


class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """Six images and masks, stored as features of every kind."""

    name = "all_kinds"
    pkg_dir_path = pathlib.Path(__file__).parent
    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self):
        kinds = tensorflow_datasets.features
        features = {
            "image": kinds.Image(),
            "array": kinds.Tensor(shape=(None, None, 3), dtype=np.uint8, encoding="zlib"),
            "labeled": kinds.LabeledImage(labels=["sky", "road", "car"]),
            "mask": kinds.Image(shape=(None, None, 1)),
            "flat": kinds.Tensor(shape=(None, 7), dtype=np.int32),
            "deep": kinds.Tensor(shape=(None, None, 1), dtype=np.int64, encoding="bytes"),
            "too_large": kinds.Tensor(shape=(None, 7), dtype=np.int32),
            "file": kinds.Text(),
            "number": kinds.Scalar(dtype=np.int64),
            "box": kinds.BBoxFeature(),
            "clip": kinds.Sequence(kinds.Image()),
        }
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(members) for name, members in SPLITS.items()}

    def _generate_examples(self, members):
        for i in members:
            image, mask = IMAGES[i], MASKS[i]
            yield i, {
                "image": png(image), "array": image, "labeled": png(mask), "mask": png(mask),
                "flat": mask.astype(np.int32), "deep": mask.astype(np.int64)[..., None],
                "too_large": mask.astype(np.int32) + 254, "file": f"{i}.png", "number": i, "clip": [],
                "box": tensorflow_datasets.features.BBox(ymin=0.0, xmin=0.0, ymax=1.0, xmax=1.0),
            }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A data_dir with the prepared dataset, whose builder TensorFlow Datasets does not know."""
    root = tmp_path_factory.mktemp("tfds")
    Builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture
def read(root: pathlib.Path):
    options = {"name": "all_kinds", "image_key": "image", "mask_key": "labeled", "id_key": "number"}
    return lambda split="train", **others: tfds(split, **{"data_dir": str(root), **options, **others})


def by_number(dataset) -> dict:
    return {int(example["id"]): example for example in (dataset.source[i] for i in range(len(dataset.source)))}


@pytest.mark.parametrize("image_key", ["image", "array"])
@pytest.mark.parametrize("mask_key", ["labeled", "mask", "flat", "deep"])
def test_images_and_masks_of_every_kind(read, image_key: str, mask_key: str) -> None:
    dataset = read(image_key=image_key, mask_key=mask_key, values=(2, 0), ignore_values=(1,))
    assert dataset.num_classes == 2 and dataset.class_names == ("2", "0")
    examples = by_number(dataset)
    assert sorted(examples) == [0, 1, 2, 3]
    for i, example in examples.items():
        np.testing.assert_array_equal(example["image"], IMAGES[i])
        np.testing.assert_array_equal(example["label"], np.array([1, IGNORE_LABEL, 0])[MASKS[i]])
        assert example["image"].dtype == example["label"].dtype == np.uint8


def test_a_labeled_image_names_the_classes(read) -> None:
    dataset = read("val")
    assert dataset.class_names == ("sky", "road", "car") and len(set(dataset.palette)) == 3
    for i, example in by_number(dataset).items():
        np.testing.assert_array_equal(example["label"], MASKS[i])
    renamed = read(class_names=("a", "b", "c"), palette=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    assert renamed.class_names == ("a", "b", "c") and renamed.palette[2] == (2, 2, 2)


def test_names_can_come_from_a_file(read, root: pathlib.Path) -> None:
    (root / "names.txt").write_text("low\nmiddle\nhigh\n")
    assert read(mask_key="flat", class_names="names.txt").class_names == ("low", "middle", "high")


def test_versions_slices_and_ids(read) -> None:
    whole = by_number(read(name="all_kinds:1.0.0"))
    parts = [by_number(read(split)) for split in ("train[:75%]", "train[75%:]")]
    assert [len(part) for part in parts] == [3, 1] and sorted({**parts[0], **parts[1]}) == sorted(whole)
    numbers = [int(read().source[i]["id"]) for i in range(4)]
    assert [read(id_key="file").source[i]["id"] for i in range(4)] == [str(number) for number in numbers]
    assert [read(id_key="").source[i]["id"] for i in range(4)] == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(read(id_key="").source[1]["image"], IMAGES[numbers[1]])


def test_a_dataset_is_prepared_on_first_use(tmp_path: pathlib.Path) -> None:
    class FirstUse(Builder):
        name = "first_use"

    options = {"image_key": "image", "mask_key": "labeled", "data_dir": str(tmp_path)}
    assert len(tfds("train", name="first_use", **options).source) == 4
    assert (tmp_path / "first_use" / "1.0.0" / "features.json").is_file()


def test_an_incomplete_dataset_is_reported(tmp_path: pathlib.Path) -> None:
    (tmp_path / "halfway" / "1.0.0").mkdir(parents=True)
    options = {"image_key": "image", "mask_key": "labeled", "data_dir": str(tmp_path)}
    with pytest.raises(DataError, match=rf"{tmp_path}/halfway exists but contains no complete prepared data"):
        tfds("train", name="halfway", **options)


WRONG = {
    "name": ({"name": "all_kindz"}, r"name = 'all_kindz': .*none is prepared in .*mean 'all_kinds'\?.*catalog"),
    "catalog name": ({"name": "oxford_iit_pet"}, "did you mean 'oxford_iiit_pet'"),
    "no name": ({"name": "two words"}, "'two words': TensorFlow Datasets cannot open it.*NAME/CONFIG:VERSION"),
    "config": ({"name": "cityscapes/semantic"}, r"has no config 'semantic'; it has semantic_segmentation, "),
    "no configs": ({"name": "oxford_iiit_pet/small"}, r"oxford_iiit_pet has no config 'small'; it has none\)"),
    "version": ({"name": "oxford_iiit_pet:9.9.9"}, r"cannot be loaded at version 9\.9\.9, only: 4\.0\.0"),
    "feature": (
        {"mask_key": "labeld"},
        r"(?s)mask_key = 'labeld': this feature of all_kinds does not exist; did you mean 'labeled'\?\nIts.*"
        r"array: Tensor uint8\[\?, \?, 3\]: looks like images.*file: Text\n.*flat: Tensor int32\[\?, 7\]: looks like "
        r"masks.*image: Image uint8\[\?, \?, 3\]: looks like images.*labeled: LabeledImage .*: looks like masks",
    ),
    "mask of channels": ({"mask_key": "array"}, "mask_key = 'array'.*is not a mask .*Tensor of integers"),
    "mask of text": ({"mask_key": "file"}, "mask_key = 'file'.*is not a mask"),
    "mask of images": ({"mask_key": "clip"}, "mask_key = 'clip'.*is not a mask"),
    "image of numbers": ({"image_key": "flat"}, "image_key = 'flat'.*is not an image"),
    "id of numbers": ({"id_key": "box"}, "id_key = 'box'.*is not a string or an integer"),
    "split": ({"split": "test"}, r"split = 'test': all_kinds in .* has no such split; it has train, val, and slices"),
    "classes": ({"mask_key": "mask"}, r"class_names = \(\): must name .*'mask' of all_kinds does not; .*in `values`"),
    "names": ({"values": (0, 1, 2), "class_names": ("a", "b")}, r"has 2 names for 3 `values`"),
    "palette": ({"palette": ((0, 0, 0),)}, r"palette = .*must be 3 colors .*its shape is \[1, 3\]"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_invalid_options_are_reported(read, options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read(**options)


def test_values_without_a_class_are_reported(read) -> None:
    with pytest.raises(DataError, match=r"all_kinds \d: contains the mask value 2 "):
        by_number(read(class_names=("a", "b")))
    with pytest.raises(DataError, match=r"all_kinds \d \(too_large\): has mask values from 254 to 256, but labels are"):
        by_number(read(mask_key="too_large", values=(254, 255)))


def test_float_images_are_not_masks(tmp_path: pathlib.Path) -> None:
    class Depth(Builder):
        name = "depth"

        def _info(self):
            kinds = tensorflow_datasets.features
            features = {"image": kinds.Image(), "depth": kinds.Image(shape=(None, None, 1), dtype=np.float32)}
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features))

    with pytest.raises(ArgumentError, match="mask_key = 'depth'.*is not a mask"):
        tfds("train", data_dir=str(tmp_path), name="depth", image_key="image", mask_key="depth", values=(0, 1))
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_error_suggests_solutions(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(host: str, *_: object) -> None:
        raise socket.gaierror(f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    read = functools.partial(tfds, "train", data_dir=str(tmp_path), values=(1, 2, 3))
    with pytest.raises(DataError) as caught:
        read(name="oxford_iiit_pet", image_key="image", mask_key="segmentation_mask")
    for part in (
        f"oxford_iiit_pet/4.0.0 is not prepared in {tmp_path}",
        "thor.robots.ox.ac.uk is not known",
        "Put annotations.tar.gz and images.tar.gz (http",
        f"into the folder {tmp_path}/downloads/manual (missing there: annotations.tar.gz, images.tar.gz)",
        f"copy the folder to {tmp_path}/oxford_iiit_pet/4.0.0",
    ):
        assert part in str(caught.value)
