"""The pets read the same from the original layout and from a dataset that TensorFlow Datasets really prepared."""

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

from flaxseg.data.datasets.folder import folder
from flaxseg.data.datasets.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.pipeline import train_batches
from flaxseg.data.types import reduced
from flaxseg.errors import DataError

pytest_plugins = ("true_layouts",)
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


def test_binary_counts_the_border_as_pet(pets: pathlib.Path) -> None:
    dataset = oxford_iiit_pet("test", data_dir=str(pets), task="binary")
    assert dataset.class_names == ("background", "pet")
    mask = np.array(Image.open(pets / "annotations" / "trimaps" / "Cat_8.png"))
    np.testing.assert_array_equal(dataset.source[0]["label"], mask != 2)


def test_both_layouts_and_the_folder_reader_give_the_same_pixels(
    pets: pathlib.Path, prepared_pets: pathlib.Path
) -> None:
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


def test_a_seed_means_the_same_batches_however_the_pets_are_stored(
    pets: pathlib.Path, prepared_pets: pathlib.Path
) -> None:
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


def test_pictures_are_decoded_smaller_from_either_layout(pets: pathlib.Path, prepared_pets: pathlib.Path) -> None:
    layouts = [oxford_iiit_pet("train", data_dir=str(root)).source for root in (pets, prepared_pets)]
    whole, (read, stored) = layouts[0], [reduced(source, (8, 10)) for source in layouts]
    for i in range(8):
        # Odd sides do not divide evenly, so that they stay.
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
    with pytest.raises(DataError, match=r"no split 'val': there are train, test, and slices of them such as"):
        oxford_iiit_pet("val", data_dir=str(prepared_pets))
    with pytest.raises(DataError, match=r"no split 'train\[:90%\]': there are train, trainval, test; slices"):
        oxford_iiit_pet("train[:90%]", data_dir=str(pets))
    with pytest.raises(DataError, match=r"data\.options\.task of oxford_iiit_pet is 'species'.*trimap, binary"):
        oxford_iiit_pet("train", data_dir=str(pets), task="species")


def test_what_an_original_layout_lacks_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=f"the folder {tmp_path}/annotations/trimaps does not exist"):
        oxford_iiit_pet("train", data_dir=str(tmp_path))


def test_without_data_and_network_the_message_says_what_to_do(
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
        "name that folder in data.dir",
        "python -m flaxseg.main --config=configs/shapes.py",
    ):
        assert part in str(caught.value)


def test_other_archives_than_the_published_ones_are_refused(pets: pathlib.Path, tmp_path: pathlib.Path) -> None:
    archives = tmp_path / "archives"
    prepare_pets.write_archives(pets, archives)
    with pytest.raises(DataError, match=r"(?s)NonMatchingChecksumError.*all are there: are they the published ones\?"):
        oxford_iiit_pet("train", data_dir=str(tmp_path / "data"), manual_dir=str(archives))


def test_a_data_set_prepared_as_tfrecord_has_to_be_prepared_again(
    prepared_pets: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    source, target = (root / "oxford_iiit_pet" / "4.0.0" for root in (prepared_pets, tmp_path))
    target.mkdir(parents=True)
    for file in source.iterdir():
        # The stored format is named in the description; nothing else of the dataset is read here.
        (target / file.name).write_bytes(file.read_bytes().replace(b"array_record", b"tfrecord"))
    with pytest.raises(
        DataError, match="prepared in a format that cannot be read at random .*empty directory in data.dir"
    ):
        oxford_iiit_pet("train", data_dir=str(tmp_path))


def test_real_pets_are_the_same_prepared_and_in_the_original_layout(
    shared_data: pathlib.Path, tmp_path: pathlib.Path, prepare
) -> None:
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
