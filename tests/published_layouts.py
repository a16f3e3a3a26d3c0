"""Fixtures: small datasets in the layouts in which the real ones are published, and prepared by TensorFlow Datasets.

A test file lists this one in `pytest_plugins`. Preparing a dataset takes seconds, so one of pytest's worker processes
prepares it for all of them.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

REPOSITORY = pathlib.Path(__file__).parents[1]
CITYSCAPES_ARCHIVES = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Ten generated pairs in the original layout: eight in trainval.txt, two (28x22 and 29x21) in test.txt."""
    root = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "annotations" / "trimaps").mkdir(parents=True)
    for i in range(10):
        size = (20 + i, 30 - i)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(root / "images" / f"Cat_{i}.jpg")
        mask = Image.fromarray(rng.integers(1, 4, size, dtype=np.uint8))
        mask.save(root / "annotations" / "trimaps" / f"Cat_{i}.png")
    # The published archive contains such files, left behind by the system that packed it.
    (root / "annotations" / "trimaps" / "._Cat_0.png").write_bytes(b"not an image")
    for name, members in (("trainval", range(8)), ("test", range(8, 10))):
        (root / "annotations" / f"{name}.txt").write_text("".join(f"Cat_{i} 1 1 1\n" for i in members))
    return root


@pytest.fixture(scope="session")
def prepare():
    """Returns a function (source, target) that prepares pets in the original layout into the folder `target`."""

    def run(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        _run(str(REPOSITORY / "tests" / "prepare_pets.py"), str(source), str(target))
        return target

    return run


@pytest.fixture(scope="session")
def prepared_pets(pets: pathlib.Path, prepare, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The pets, prepared by TensorFlow Datasets."""
    return _prepare_once(tmp_path_factory, "prepared_pets", lambda target: prepare(pets, target))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Generated 7x5 scenes in the layout of Cityscapes: four in `train`, two in `val`, one in `test`.

    Each mask contains each of the labelIds 0 to 33 and 255 once.
    """
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    stems = {"train": ("ulm_000000", "bonn_000002", "bonn_000001", "aachen_000000"),
             "val": ("munster_000000", "frankfurt_000000"), "test": ("berlin_000000",)}  # fmt: skip
    for split, name in ((key, name) for key, names in stems.items() for name in names):
        city = name.partition("_")[0]
        image = root / "leftImg8bit" / split / city / f"{name}_000019_leftImg8bit.png"
        mask = root / "gtFine" / split / city / f"{name}_000019_gtFine_labelIds.png"
        for file in (image, mask):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(image)
        # Every labelId, and 255, which is the -1 of license plates in one byte.
        Image.fromarray(rng.permutation([*range(34), 255]).astype(np.uint8).reshape(5, 7)).save(mask)
        # The published folder contains such files, too.
        Image.new("RGBA", (7, 5)).save(mask.with_name(mask.name.replace("labelIds", "color")))
    return root


@pytest.fixture(scope="session")
def scene_archives(scenes: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the two archives that Cityscapes is published as."""
    folder = tmp_path_factory.mktemp("scene_archives")
    for part, name in CITYSCAPES_ARCHIVES.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for file in sorted((scenes / part).rglob("*.png")):
                archive.write(file, file.relative_to(scenes))
    return folder


@pytest.fixture(scope="session")
def prepared_scenes(scene_archives: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The scenes, prepared by TensorFlow Datasets."""

    def prepare(target: pathlib.Path) -> None:
        call = f"cityscapes('train', data_dir={str(target)!r}, manual_dir={str(scene_archives)!r})"
        _run("-c", f"from flaxseg.data import cityscapes; {call}")

    return _prepare_once(tmp_path_factory, "prepared_scenes", prepare)


@pytest.fixture
def voc2012(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with VOCdevkit/VOC2012: four 6x4 images, of which two in `train` and one in `val` have a mask.

    Each mask contains each class once, and 255 three times.
    """
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for stem in ("2007_000033", "2007_000032", "2008_000001", "2008_000002"):
        Image.fromarray(np.full((4, 6, 3), 128, np.uint8)).save(root / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000033", "2007_000032", "2008_000001"):
        mask = Image.fromarray(np.array([*range(21), 255, 255, 255], np.uint8).reshape(4, 6))
        # Arbitrary colors, because only the indices matter.
        mask.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
        mask.save(root / "SegmentationClass" / f"{stem}.png")
    lists = {"train": "2007_000033\n2007_000032\n", "val": "2008_000001\n"}
    lists["trainval"] = lists["train"] + lists["val"]
    for name, text in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    return tmp_path


@pytest.fixture
def camvid_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """One 4x3 image in `train` and two in `val`; each mask contains every value of CamVid, 0 to 11."""
    for split, stems in (("train", ["a"]), ("val", ["c", "b"])):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
        for stem in stems:
            Image.fromarray(np.full((3, 4, 3), ord(stem), np.uint8)).save(tmp_path / split / f"{stem}.png")
            mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
            Image.fromarray(mask).save(tmp_path / f"{split}annot" / f"{stem}.png")
    return tmp_path


def _prepare_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, prepare: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Returns a directory that `prepare(directory)` has filled in the first worker process that needs it."""
    root = tmp_path_factory.getbasetemp()
    # Each worker process of pytest-xdist has a directory below that of the run.
    directory = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    done = directory.with_suffix(".done")
    with FileLock(directory.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            prepare(directory)
            done.touch()
    return directory


def _run(*arguments: str) -> None:
    """Runs Python in a separate process, so that TensorFlow, which prepares datasets, is not imported into this one."""
    done = subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
