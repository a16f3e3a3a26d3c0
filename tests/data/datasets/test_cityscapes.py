"""Cityscapes is the same in its original folders and in a dataset that TensorFlow Datasets prepared."""

import pathlib
import socket

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.datasets.cityscapes import cityscapes
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError, DataError

pytest_plugins = ("published_layouts",)


def examples(dataset) -> dict:
    return {example["id"]: example for example in (dataset.source[i] for i in range(len(dataset.source)))}


def test_label_ids_become_train_ids(scenes: pathlib.Path) -> None:
    dataset = cityscapes("val", data_dir=str(scenes))
    read = examples(dataset)
    assert list(read) == ["frankfurt_000000_000019", "munster_000000_000019"]
    path = scenes / "gtFine" / "val" / "munster" / "munster_000000_000019_gtFine_labelIds.png"
    stored = np.array(Image.open(path))
    label = read["munster_000000_000019"]["label"]
    # Part of the published table; labelIds that are not in it are ignored.
    for label_id, train_id in {7: 0, 8: 1, 11: 2, 17: 5, 19: 6, 23: 10, 26: 13, 28: 15, 31: 16, 33: 18}.items():
        assert label[stored == label_id] == train_id
    for label_id in (0, 1, 4, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255):
        assert label[stored == label_id] == IGNORE_LABEL
    assert sorted(label[label != IGNORE_LABEL]) == list(range(19))


def test_names_and_colors_are_the_official_ones(scenes: pathlib.Path) -> None:
    dataset = cityscapes("val", data_dir=str(scenes))
    assert dataset.num_classes == 19 and len(set(dataset.palette)) == 19
    colors = dict(zip(dataset.class_names, dataset.palette, strict=True))
    assert dataset.class_names[0] == "road" and colors["road"] == (128, 64, 128)
    assert dataset.class_names[13] == "car" and colors["car"] == (0, 0, 142)
    assert dataset.class_names[18] == "bicycle" and colors["bicycle"] == (119, 11, 32)


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 2), ("validation", 2), ("test", 1)])
def test_both_layouts_give_the_same_pixels(
    scenes: pathlib.Path, prepared_scenes: pathlib.Path, split: str, count: int
) -> None:
    read, stored = (examples(cityscapes(split, data_dir=str(root))) for root in (scenes, prepared_scenes))
    assert list(read) == sorted(stored) and len(read) == count
    for key, example in read.items():
        np.testing.assert_array_equal(example["image"], stored[key]["image"], err_msg=key)
        np.testing.assert_array_equal(example["label"], stored[key]["label"], err_msg=key)


def test_prepared_splits_can_be_sliced(prepared_scenes: pathlib.Path) -> None:
    for split in ("val[:50%]", "validation[50%:]"):
        assert len(cityscapes(split, data_dir=str(prepared_scenes)).source) == 1


def test_unknown_splits_are_named(scenes: pathlib.Path, prepared_scenes: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match=r"split = 'train\[:90%\]': .* train, val, validation, test\. Slices"):
        cityscapes("train[:90%]", data_dir=str(scenes))
    with pytest.raises(ArgumentError, match=r"split = 'extra': .*it has .*train.*and slices of them"):
        cityscapes("extra", data_dir=str(prepared_scenes))


def test_without_data_the_error_suggests_solutions(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(DataError) as caught:
        cityscapes("train", data_dir=str(tmp_path))
    for part in (
        f"is not prepared in {tmp_path}",
        "Put leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (https://www.cityscapes-dataset.com/downloads/",
        f"into the folder {tmp_path}/downloads/manual (missing there: leftImg8bit_trainvaltest.zip, gtFine_",
        "pass that folder as data_dir",
    ):
        assert part in str(caught.value)
