"""Cityscapes reads the same from its folders and from what TensorFlow Datasets really prepared of its archives."""

import pathlib
import socket
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.batch import IGNORE_LABEL
from flaxseg.data.cityscapes import cityscapes
from flaxseg.errors import DataError

ARCHIVES = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Generated scenes in the original layout: four in `train`, two in `val`, one in `test`."""
    root = tmp_path_factory.mktemp("original")
    rng = np.random.default_rng(0)
    scenes = {"train": ("ulm_000000", "bonn_000002", "bonn_000001", "aachen_000000"),
              "val": ("munster_000000", "frankfurt_000000"), "test": ("berlin_000000",)}  # fmt: skip
    for split, names in scenes.items():
        for name in names:
            city = name.partition("_")[0]
            image = root / "leftImg8bit" / split / city / f"{name}_000019_leftImg8bit.png"
            mask = root / "gtFine" / split / city / f"{name}_000019_gtFine_labelIds.png"
            for file in (image, mask):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(image)
            # Every labelId, and the value that the licence plate's -1 becomes in one byte.
            Image.fromarray(rng.permutation([*range(34), 255]).astype(np.uint8).reshape(5, 7)).save(mask)
            # The published folder holds these too.
            Image.new("RGBA", (7, 5)).save(mask.with_name(mask.name.replace("labelIds", "color")))
    return root


@pytest.fixture(scope="session")
def prepared(original: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """In a process of its own: unpacking archives imports TensorFlow, which no test should then find loaded."""
    root, archives = tmp_path_factory.mktemp("prepared"), tmp_path_factory.mktemp("archives")
    for part, name in ARCHIVES.items():
        with zipfile.ZipFile(archives / name, "w") as archive:
            for file in sorted((original / part).rglob("*.png")):
                archive.write(file, file.relative_to(original))
    program = (
        f"from flaxseg.data import cityscapes;cityscapes('train', data_dir={str(root)!r}, manual_dir={str(archives)!r})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def examples(dataset) -> dict:
    return {example["id"]: example for example in (dataset.source[i] for i in range(len(dataset.source)))}


def test_label_ids_become_train_ids(original: pathlib.Path) -> None:
    dataset = cityscapes("val", data_dir=str(original))
    read = examples(dataset)
    assert list(read) == ["frankfurt_000000_000019", "munster_000000_000019"]
    path = original / "gtFine" / "val" / "munster" / "munster_000000_000019_gtFine_labelIds.png"
    stored = np.array(Image.open(path))
    label = read["munster_000000_000019"]["label"]
    # Some of the published table; what is not in it does not count.
    for label_id, train_id in {7: 0, 8: 1, 11: 2, 17: 5, 19: 6, 23: 10, 26: 13, 28: 15, 31: 16, 33: 18}.items():
        assert label[stored == label_id] == train_id
    for label_id in (0, 1, 4, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255):
        assert label[stored == label_id] == IGNORE_LABEL
    assert sorted(label[label != IGNORE_LABEL]) == list(range(19))


def test_names_and_colours_are_the_official_ones(original: pathlib.Path) -> None:
    dataset = cityscapes("val", data_dir=str(original))
    assert dataset.num_classes == 19 and len(set(dataset.palette)) == 19
    colours = dict(zip(dataset.class_names, dataset.palette, strict=True))
    assert dataset.class_names[0] == "road" and colours["road"] == (128, 64, 128)
    assert dataset.class_names[13] == "car" and colours["car"] == (0, 0, 142)
    assert dataset.class_names[18] == "bicycle" and colours["bicycle"] == (119, 11, 32)


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 2), ("validation", 2), ("test", 1)])
def test_both_ways_give_the_same_pixels(original: pathlib.Path, prepared: pathlib.Path, split: str, count: int) -> None:
    read, stored = (examples(cityscapes(split, data_dir=str(root))) for root in (original, prepared))
    assert list(read) == sorted(stored) and len(read) == count
    for key, example in read.items():
        np.testing.assert_array_equal(example["image"], stored[key]["image"], err_msg=key)
        np.testing.assert_array_equal(example["label"], stored[key]["label"], err_msg=key)


def test_prepared_splits_can_be_sliced(prepared: pathlib.Path) -> None:
    for split in ("val[:50%]", "validation[50%:]"):
        assert len(cityscapes(split, data_dir=str(prepared)).source) == 1


def test_unknown_splits_are_named(original: pathlib.Path, prepared: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"no split 'train\[:90%\]': there are train, val, validation, test; slices"):
        cityscapes("train[:90%]", data_dir=str(original))
    with pytest.raises(DataError, match=r"no split 'extra': there are .*train.*and slices of them"):
        cityscapes("extra", data_dir=str(prepared))


def test_without_data_the_message_says_what_to_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        "name that folder in data.dir",
    ):
        assert part in str(caught.value)
