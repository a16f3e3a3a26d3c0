"""Pascal VOC's lists, palette masks and colour map, from a small layout of the same kind."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.batch import IGNORE_LABEL
from flaxseg.data.voc import voc
from flaxseg.errors import DataError


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with VOCdevkit/VOC2012 in it: four pictures, of which three have a mask."""
    voc2012 = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc2012 / folder).mkdir(parents=True)
    for stem in ("2007_000033", "2007_000032", "2008_000001", "2008_000002"):
        Image.fromarray(np.full((4, 6, 3), 128, np.uint8)).save(voc2012 / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000033", "2007_000032", "2008_000001"):
        mask = Image.fromarray(np.array([*range(21), 255, 255, 255], np.uint8).reshape(4, 6))
        # Colours of any other kind: the indices count.
        mask.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
        mask.save(voc2012 / "SegmentationClass" / f"{stem}.png")
    lists = {"train": "2007_000033\n2007_000032\n", "val": "2008_000001\n"}
    lists["trainval"] = lists["train"] + lists["val"]
    for name, text in lists.items():
        (voc2012 / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    return tmp_path


def ids(dataset) -> list[str]:
    return [dataset.source[i]["id"] for i in range(len(dataset.source))]


def test_only_listed_pictures_are_read_from_either_folder(root: pathlib.Path) -> None:
    for data_dir in (root, root / "VOCdevkit" / "VOC2012"):
        assert ids(voc("train", data_dir=str(data_dir))) == ["2007_000032", "2007_000033"]
        assert ids(voc("val", data_dir=str(data_dir))) == ["2008_000001"]
        assert len(voc("trainval", data_dir=str(data_dir)).source) == 3


def test_palette_indices_are_the_classes_and_255_is_ignored(root: pathlib.Path) -> None:
    label = voc("val", data_dir=str(root)).source[0]["label"]
    np.testing.assert_array_equal(label.ravel(), [*range(21), *[IGNORE_LABEL] * 3])


def test_the_colour_map_is_the_official_one(root: pathlib.Path) -> None:
    dataset = voc("val", data_dir=str(root))
    colours = dict(zip(dataset.class_names, dataset.palette, strict=True))
    assert dataset.num_classes == 21 and len(set(dataset.palette)) == 21
    expected = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "bicycle": (0, 128, 0),
        "boat": (0, 0, 128),
        "car": (128, 128, 128),
        "cat": (64, 0, 0),
        "person": (192, 128, 128),
        "pottedplant": (0, 64, 0),
        "train": (128, 192, 0),
        "tvmonitor": (0, 64, 128),
    }
    assert {name: colours[name] for name in expected} == expected
    assert dataset.class_names.index("person") == 15


def test_what_is_missing_is_named(root: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"voc needs data\.dir.*VOCtrainval_11-May-2012\.tar"):
        voc("train", data_dir="")
    with pytest.raises(DataError, match=r"(?s)there is train, trainval, val\).*test\.txt cannot be read"):
        voc("test", data_dir=str(root))
