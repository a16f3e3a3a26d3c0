"""Pairs of files as examples, at full and at reduced size, and the scan of masks for their values."""

import pathlib
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from flaxseg.data import MappedSource, folder
from flaxseg.data.masks import scan
from flaxseg.errors import DataError


def write(path: pathlib.Path, values: np.ndarray | list) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_arrays_as_images_and_masks(tmp_path: pathlib.Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    cube = np.arange(4 * 5 * 7, dtype=np.uint16).reshape(7, 4, 5)
    tifffile.imwrite(tmp_path / "images" / "a.tif", cube, photometric="minisblack", planarconfig="separate")
    np.save(tmp_path / "masks" / "a.npy", np.eye(4, 5, dtype=np.int64))
    source = folder("all", data_dir=str(tmp_path), value_range=(0, 51)).source
    example = source[0]
    np.testing.assert_allclose(example["image"], np.minimum(cube.transpose(1, 2, 0) * 5.0, 255), rtol=1e-6)
    np.testing.assert_array_equal(example["label"], np.eye(4, 5))


def test_reduced_images_keep_their_labels_and_the_size_check(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "a.jpg", np.full((64, 128, 3), 90))
    write(tmp_path / "images" / "b.jpg", np.full((64, 128, 3), 90))
    write(tmp_path / "masks" / "a.png", np.zeros((64, 128)))
    write(tmp_path / "masks" / "b.png", np.zeros((32, 64)))
    source = folder("all", data_dir=str(tmp_path), values=(0,)).source.reduced((30, 60))
    example = source[0]
    assert example["image"].shape == (32, 64, 3) and example["label"].shape == (64, 128) and example["id"] == "a"
    with pytest.raises(DataError, match=r"masks/b\.png: is 64x32.*images/b\.jpg is 128x64"):
        source[1]


def test_mapped_examples_are_reduced(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "a.jpg", np.full((64, 128, 3), 90))
    write(tmp_path / "masks" / "a.png", np.zeros((64, 128)))
    source = MappedSource(folder("all", data_dir=str(tmp_path), values=(0,)).source, map_id=lambda _: "b")
    assert source[0]["image"].shape == (64, 128, 3) and len(source) == 1
    smaller = source.reduced((8, 16))[0]
    assert smaller["image"].shape == (8, 16, 3) and smaller["id"] == "b"


def test_a_source_can_be_sent_to_another_process(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "a.png", np.full((4, 6, 3), 90))
    write(tmp_path / "masks" / "a.png", np.eye(4, 6))
    source = folder("all", data_dir=str(tmp_path), values=(0, 1)).source
    sent = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(sent[0]["label"], source[0]["label"])


def test_masks_are_scanned_once_for_all_splits_and_again_after_a_change(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stem in ("a", "b", "c"):
        write(tmp_path / "images" / f"{stem}.png", [[0, 1]])
        write(tmp_path / "masks" / f"{stem}.png", [[0, 1]])
    read = []
    decode = scan.decode_label
    monkeypatch.setattr(scan, "decode_label", lambda *a, **k: read.append(k["name"]) or decode(*a, **k))
    train, val = (folder(split, data_dir=str(tmp_path), val_fraction=0.4) for split in ("train", "val"))
    assert len(read) == 3 and train.class_names == val.class_names == ("0", "1")
    write(tmp_path / "masks" / "c.png", [[0, 7]])
    assert folder("val", data_dir=str(tmp_path)).class_names == ("0", "1", "7") and len(read) == 6
