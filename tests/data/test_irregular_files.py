"""Only regular files are opened: a pipe never blocks a run, and a device never fills its memory."""

import os
import pathlib
import socket

import numpy as np
import pytest
from list_source import ListSource
from PIL import Image

from flaxseg.data import SegmentationDataset, folder
from flaxseg.data.decode.blocks import open_blocks, stored_size
from flaxseg.data.masks.class_names import read_class_names
from flaxseg.data.sampling import sampling_weights
from flaxseg.data.sources.archives import check_members
from flaxseg.data.sources.files import read_file
from flaxseg.errors import DataError, WeightsError
from flaxseg.models.pretrained.files import read_weights


def make_pipe(path: pathlib.Path) -> None:
    os.mkfifo(path)


def make_socket(path: pathlib.Path) -> None:
    # The path of a socket may only be short.
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(before)


KINDS = {
    "a named pipe (FIFO)": make_pipe,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": make_socket,
    "a folder": lambda path: path.mkdir(),
}

NO_DATA = SegmentationDataset(ListSource(), 2, ("a", "b"), ((0, 0, 0), (1, 1, 1)))

READERS = {
    "whole": read_file,
    "blocks": open_blocks,
    "class names": lambda path: read_class_names("", path),
    "sampling weights": lambda path: sampling_weights(path, NO_DATA, num_threads=0),
    "archive": check_members,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_anything_but_a_regular_file_is_an_error_at_once(tmp_path, kind, reader):
    path = tmp_path / "image.tif"
    KINDS[kind](path)
    with pytest.raises(DataError, match=rf"^{path}( \(a link to /dev/zero\))?: is {kind[:-6]}.*, but only files are"):
        READERS[reader](str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_anything_else_is_unknown(tmp_path, kind):
    KINDS[kind](tmp_path / "image.tif")
    assert stored_size(str(tmp_path / "image.tif")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_regular_files(tmp_path, kind):
    KINDS[kind](tmp_path / "weights.npz")
    with pytest.raises(WeightsError, match=r"weights.npz: is a (device or a pipe|directory); give"):
        read_weights(tmp_path / "weights.npz")


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("kind", ["a named pipe (FIFO)", "a device", "a socket"])
def test_an_example_names_the_file(tmp_path, part, kind):
    for directory in ("images", "masks"):
        (tmp_path / directory).mkdir()
        for stem in "ab":
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / directory / f"{stem}.png")
    bad = tmp_path / part / "b.png"
    bad.unlink()
    KINDS[kind](bad)
    dataset = folder("train", data_dir=str(tmp_path), values=(0, 1), val_fraction=0.0)
    assert dataset.source[0]["id"] == "a"
    with pytest.raises(DataError, match=rf"^{bad}.*: is {kind[:-6]}"):
        dataset.source[1]


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(str(tmp_path / "link")) == b"content"
