"""The pets are the same in the original layout and in a dataset that TensorFlow Datasets prepared."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import textwrap

import numpy as np
import prepare_pets
import pytest
from PIL import Image
from saved_run import DESCRIPTION

from flaxseg.config.schema import default_config
from flaxseg.data.datasets.folder import folder
from flaxseg.data.datasets.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.pipeline import train_batches
from flaxseg.data.sources import pair_source
from flaxseg.data.statistics import compute_statistics
from flaxseg.errors import ArgumentError, CheckpointError, DataError
from flaxseg.train.workdir import Workdir

pytest_plugins = ("published_layouts",)
ROOT = pathlib.Path(__file__).parents[3]


def examples(dataset) -> dict:
    return {example["id"]: example for example in (dataset.source[i] for i in range(len(dataset.source)))}


def assert_same(some: dict, others: dict) -> None:
    assert list(some) == list(others)
    for key, example in some.items():
        np.testing.assert_array_equal(example["image"], others[key]["image"], err_msg=key)
        np.testing.assert_array_equal(example["label"], others[key]["label"], err_msg=key)


def test_the_original_layout_is_read(pets: pathlib.Path) -> None:
    dataset = oxford_iiit_pet("test", data_dir=str(pets))
    assert dataset.class_names == ("pet", "background", "border") and dataset.num_classes == 3
    assert list(examples(dataset)) == ["Cat_8", "Cat_9"]
    mask = np.array(Image.open(pets / "annotations" / "trimaps" / "Cat_9.png"))
    np.testing.assert_array_equal(dataset.source[1]["label"], mask - 1)
    assert len(oxford_iiit_pet("train", data_dir=str(pets)).source) == 8


def test_in_the_binary_task_the_border_belongs_to_the_pet(pets: pathlib.Path) -> None:
    dataset = oxford_iiit_pet("test", data_dir=str(pets), task="binary")
    assert dataset.class_names == ("background", "pet")
    mask = np.array(Image.open(pets / "annotations" / "trimaps" / "Cat_8.png"))
    np.testing.assert_array_equal(dataset.source[0]["label"], mask != 2)


def test_the_binary_task_names_examples_without_decoding_and_keeps_the_exif_orientation(
    pets: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "pets"
    shutil.copytree(pets, root)
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(root / "images" / "Cat_9.jpg") as image:
        image.save(root / "images" / "Cat_9.jpg", exif=exif)
    trimap, binary = (oxford_iiit_pet("test", data_dir=str(root), task=task) for task in ("trimap", "binary"))
    for dataset in (trimap, binary):
        assert compute_statistics(dataset, num_threads=0).orientations.tolist() == [1, 3]
    assert binary.source.digest() == trimap.source.digest() != ""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(pair_source, "decode_reduced", fail)
    assert [binary.source.example_id(index) for index in range(2)] == ["Cat_8", "Cat_9"]


def test_a_resumed_run_recognizes_its_prepared_examples(
    pets: pathlib.Path, prepared_pets: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def splits(train: str, root: pathlib.Path = prepared_pets, **options: str) -> dict:
        names = {"train": train, "eval": "test"}
        return {role: oxford_iiit_pet(split, data_dir=str(root), **options) for role, split in names.items()}

    for task in ("trimap", "binary"):
        Workdir(tmp_path / task).claim(default_config(), splits("train", task=task), DESCRIPTION)
        Workdir(tmp_path / task).check_data(splits("train", task=task))
        # The original layout has the same examples in the same order.
        Workdir(tmp_path / task).check_data(splits("train", pets, task=task))
    Workdir(tmp_path / "half").claim(default_config(), splits("train[:50%]"), DESCRIPTION)
    with pytest.raises(CheckpointError, match=r"train: as many examples \(4\), but not the same"):
        Workdir(tmp_path / "half").check_data(splits("train[50%:]"))


def test_both_layouts_and_folder_give_the_same_pixels(pets: pathlib.Path, prepared_pets: pathlib.Path) -> None:
    for split, stored in (("trainval", "train"), ("test", "test")):
        by_folder = folder(
            split,
            data_dir=str(pets),
            masks="annotations/trimaps",
            split_list="annotations/{split}.txt",
            values=(1, 2, 3),
        )
        expected = examples(by_folder)
        assert_same(examples(oxford_iiit_pet(split, data_dir=str(pets))), expected)
        assert_same(examples(oxford_iiit_pet(stored, data_dir=str(prepared_pets))), expected)


def test_a_seed_gives_the_same_batches_from_every_layout(pets: pathlib.Path, prepared_pets: pathlib.Path) -> None:
    layout = {"masks": "annotations/trimaps", "split_list": "annotations/{split}.txt", "values": (1, 2, 3)}
    stored = [
        oxford_iiit_pet("train", data_dir=str(pets)),
        oxford_iiit_pet("train", data_dir=str(prepared_pets)),
        folder("trainval", data_dir=str(pets), **layout),
    ]
    first, *others = [train_batches(dataset, canvas_size=(24, 32), batch_size=4, seed=3) for dataset in stored]
    for batches in others:
        for step in (0, 1, 2, 1000):
            np.testing.assert_array_equal(batches[step]["image"], first[step]["image"])
            np.testing.assert_array_equal(batches[step]["label"], first[step]["label"])


def test_images_are_decoded_at_reduced_size_from_both_layouts(pets: pathlib.Path, prepared_pets: pathlib.Path) -> None:
    layouts = [oxford_iiit_pet("train", data_dir=str(root)).source for root in (pets, prepared_pets)]
    whole, (read, stored) = layouts[0], [source.reduced((8, 10)) for source in layouts]
    for i in range(8):
        # Odd sides cannot be halved evenly, so these images keep their size.
        height, width = (20 + i, 30 - i) if i % 2 else (10 + i // 2, 15 - i // 2)
        assert read[i]["image"].shape == stored[i]["image"].shape == (height, width, 3)
        np.testing.assert_array_equal(read[i]["image"], stored[i]["image"])
        np.testing.assert_array_equal(whole[i]["label"], stored[i]["label"])


def test_prepared_splits_can_be_sliced(prepared_pets: pathlib.Path) -> None:
    parts = [oxford_iiit_pet(split, data_dir=str(prepared_pets)) for split in ("train[:75%]", "trainval[75%:]")]
    assert [len(part.source) for part in parts] == [6, 2]
    whole = examples(oxford_iiit_pet("train", data_dir=str(prepared_pets)))
    assert sorted([*examples(parts[0]), *examples(parts[1])]) == sorted(whole)


def test_a_prepared_data_set_is_read_without_tensorflow(prepared_pets: pathlib.Path) -> None:
    program = f"""
        import importlib.machinery, sys

        class WithoutTensorFlow(importlib.machinery.PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                return None if name.partition(".")[0] == "tensorflow" else super().find_spec(name, path, target)

        finders = sys.meta_path
        finders[:] = [WithoutTensorFlow if f is importlib.machinery.PathFinder else f for f in finders]
        from flaxseg.data import iterate, oxford_iiit_pet, tfds, train_batches
        features = {{"image_key": "image", "mask_key": "segmentation_mask", "id_key": "file_name"}}
        options = {{"name": "oxford_iiit_pet", "data_dir": {str(prepared_pets)!r}, "values": (1, 2, 3)}}
        source = tfds("test", **features, **options).source
        print(sorted(source[i]["id"] for i in range(len(source))))
        dataset = oxford_iiit_pet("train", data_dir={str(prepared_pets)!r})
        batches = train_batches(dataset, canvas_size=(16, 16), batch_size=4, seed=0)
        print(next(iterate(batches, num_threads=2, prefetch=2))["image"].shape, "tensorflow" in sys.modules)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['Cat_8', 'Cat_9']\n(4, 16, 16, 3) False", done.stderr[-3000:]


def test_unknown_splits_and_tasks_are_named(pets: pathlib.Path, prepared_pets: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match=r"split = 'val': .* no such split; it has train, test, and slices of them"):
        oxford_iiit_pet("val", data_dir=str(prepared_pets))
    with pytest.raises(ArgumentError, match=r"split = 'train\[:90%\]': .*; it has train, trainval, test\. Slices"):
        oxford_iiit_pet("train[:90%]", data_dir=str(pets))
    with pytest.raises(ArgumentError, match=r"task = 'species': must be one of 'trimap', 'binary'"):
        oxford_iiit_pet("train", data_dir=str(pets), task="species")


def test_a_missing_folder_of_the_original_layout_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=f"the folder {tmp_path}/annotations/trimaps does not exist"):
        oxford_iiit_pet("train", data_dir=str(tmp_path))


def test_without_data_and_network_the_error_suggests_solutions(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(DataError) as caught:
        oxford_iiit_pet("train", data_dir=str(tmp_path))
    for part in (
        f"is not prepared in {tmp_path}",
        "Name or service not known",
        f"Put images.tar.gz and annotations.tar.gz (https://www.robots.ox.ac.uk/~vgg/data/pets/) into the folder "
        f"{tmp_path}/downloads/manual (missing there: images.tar.gz, annotations.tar.gz)",
        "pass that folder as data_dir",
        "train on the dataset `shapes`",
    ):
        assert part in str(caught.value)


def test_archives_other_than_the_published_ones_are_rejected(pets: pathlib.Path, tmp_path: pathlib.Path) -> None:
    archives = tmp_path / "archives"
    prepare_pets.write_archives(pets, archives)
    with pytest.raises(DataError, match=r"(?s)NonMatchingChecksumError.*all are there: are they the published ones\?"):
        oxford_iiit_pet("train", data_dir=str(tmp_path / "data"), manual_dir=str(archives))


def test_without_tensorflow_the_error_suggests_to_install_it(
    pets: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'tensorflow'")

    archives = tmp_path / "archives"
    prepare_pets.write_archives(pets, archives)
    monkeypatch.setattr("tensorflow_datasets.core.download.extractor.iter_archive", extract)
    with prepare_pets.any_archives(), pytest.raises(DataError) as caught:
        oxford_iiit_pet("train", data_dir=str(tmp_path / "data"), manual_dir=str(archives))
    assert "\n  - Install TensorFlow, which only preparing the dataset needs, and try again: pip install" in str(
        caught.value
    )
    assert "are they the published ones" not in str(caught.value)


def test_a_dataset_prepared_as_tfrecord_must_be_prepared_again(
    prepared_pets: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    source, target = (root / "oxford_iiit_pet" / "4.0.0" for root in (prepared_pets, tmp_path))
    target.mkdir(parents=True)
    for file in source.iterdir():
        # The description names the format; nothing else of the dataset is read here.
        (target / file.name).write_bytes(file.read_bytes().replace(b"array_record", b"tfrecord"))
    with pytest.raises(DataError, match="prepared in a format without random access .*an empty folder as data_dir"):
        oxford_iiit_pet("train", data_dir=str(tmp_path))


@pytest.mark.long
def test_real_pets_are_the_same_in_both_layouts(shared_data: pathlib.Path, tmp_path: pathlib.Path, prepare) -> None:
    mini, few = shared_data / "oxford_pets_mini", tmp_path / "few"
    for name in ("images", "annotations/trimaps"):
        (few / name).mkdir(parents=True)
    for name in ("trainval", "test"):
        lines = (mini / "annotations" / f"{name}.txt").read_text().splitlines()[:12]
        (few / "annotations" / f"{name}.txt").write_text("\n".join(lines))
        for stem in (line.split()[0] for line in lines):
            for file in (f"images/{stem}.jpg", f"annotations/trimaps/{stem}.png"):
                shutil.copyfile(mini / file, few / file)
    prepared = prepare(few, tmp_path / "prepared")
    for split in ("train", "test"):
        read = [examples(oxford_iiit_pet(split, data_dir=str(root))) for root in (prepared, few)]
        assert len(read[0]) == 12
        assert_same(*read)
