"""The samples of a dataset: which ones, at which size, and that a file gives them back."""

import io
import zipfile

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data import stored_samples
from flaxseg.data.stored_samples import center_crop, read_samples, take_samples, write_samples
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError


def dataset(count, size=(6, 8), dtype=np.uint8):
    """Returns a dataset whose example i has the value i in its image and i % 2 in its label."""
    examples = [
        {"image": np.full((*size, 3), i, dtype), "label": np.full(size, i % 2, np.uint8), "id": f"example {i}"}
        for i in range(count)
    ]
    return SegmentationDataset(
        ListSource(examples), num_classes=2, class_names=("a", "b"), palette=((0, 0, 0), (1, 1, 1))
    )


def test_samples_are_at_equal_distances_and_resized():
    samples = take_samples(dataset(50), image_size=(3, 4))
    numbers = [i * 50 // 20 for i in range(20)]
    assert [sample.id for sample in samples] == [f"example {i}" for i in numbers]
    assert [int(sample.image[0, 0, 0]) for sample in samples] == numbers
    assert {sample.image.shape for sample in samples} == {(3, 4, 3)}
    assert [int(sample.label.min()) for sample in samples] == [i % 2 for i in numbers]
    assert {sample.label.shape for sample in samples} == {(3, 4)}


@pytest.mark.parametrize(("dtype", "pixel_bytes"), [(np.uint8, 4), (np.float32, 13)])
def test_their_total_size_is_bounded_but_there_is_one(monkeypatch, dtype, pixel_bytes):
    monkeypatch.setattr(stored_samples, "MAX_BYTES", 3 * 12 * pixel_bytes + 5)
    samples = take_samples(dataset(9, dtype=dtype), image_size=(3, 4))
    assert [sample.id for sample in samples] == ["example 0", "example 3", "example 6"]
    monkeypatch.setattr(stored_samples, "MAX_BYTES", 1)
    assert len(take_samples(dataset(9, dtype=dtype), image_size=(3, 4))) == 1


def test_images_that_keep_their_scale_are_cropped_at_the_center():
    ramp = np.arange(6 * 8).reshape(6, 8)
    example = {"image": ramp[..., None].astype(np.uint8), "label": ramp.astype(np.uint8), "id": "ramp"}
    data = SegmentationDataset(ListSource([example]), num_classes=1, class_names=("a",), palette=((0, 0, 0),))
    (sample,) = take_samples(data, image_size=(2, 20), scale=1.0)
    np.testing.assert_array_equal(sample.label, ramp[2:4])
    np.testing.assert_array_equal(sample.image[..., 0], ramp[2:4])
    (half,) = take_samples(data, image_size=(9, 9), scale=0.5)
    assert half.image.shape == (3, 4, 1) and half.label.shape == (3, 4)


def test_a_crop_larger_than_the_array_is_the_array():
    array = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(center_crop(array, (9, 2)), array[:, 1:3])


def test_a_file_gives_them_back(tmp_path):
    samples = take_samples(dataset(3), image_size=(3, 4)) + take_samples(
        dataset(1, dtype=np.float32), image_size=(2, 2)
    )
    write_samples(tmp_path / "samples.npz", samples)
    assert [file.name for file in tmp_path.iterdir()] == ["samples.npz"]
    found = read_samples(tmp_path / "samples.npz")
    assert [sample.id for sample in found] == ["example 0", "example 1", "example 2", "example 0"]
    for one, other in zip(found, samples, strict=True):
        assert one.image.dtype == other.image.dtype
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_an_empty_dataset_and_a_damaged_file_are_one_error(tmp_path):
    with pytest.raises(DataError, match="the dataset to take samples from is empty"):
        take_samples(dataset(0), image_size=(3, 4))
    (tmp_path / "samples.npz").write_bytes(b"PK other")
    with pytest.raises(DataError, match=r"samples\.npz: cannot be read as the samples of a run .*restore or delete it"):
        read_samples(tmp_path / "samples.npz")
    np.savez(tmp_path / "other.npz", id=np.array(["a"]))
    with pytest.raises(DataError, match=r"other\.npz: cannot be read as the samples of a run"):
        read_samples(tmp_path / "other.npz")


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20, 3)])
def test_memory_is_allocated_for_what_a_file_contains_only(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "samples.npz", "w") as archive:
        ids = io.BytesIO()
        np.save(ids, np.array(["a"]))
        archive.writestr("id.npy", ids.getvalue())
        archive.writestr("image_0.npy", header.getvalue() + bytes(9))
    with pytest.raises(DataError, match=r"samples\.npz: cannot be read as the samples of a run \("):
        read_samples(tmp_path / "samples.npz")


def test_a_file_that_unpacks_to_gigabytes_or_holds_other_arrays_is_refused(tmp_path, monkeypatch):
    samples = take_samples(dataset(2), image_size=(3, 4))
    write_samples(tmp_path / "samples.npz", samples)
    monkeypatch.setattr(stored_samples, "MAX_BYTES", 50)
    monkeypatch.setattr(stored_samples, "_MAX_EXPANSION", 0)
    with pytest.raises(DataError, match=r"it unpacks to [\d,]+ bytes, and at most 100 are read"):
        read_samples(tmp_path / "samples.npz")
    np.savez(
        tmp_path / "other.npz", id=np.array(["a"]), image_0=np.zeros((2, 2, 1)), label_0=np.zeros((2, 2), np.uint8)
    )
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"sample 0 is float64\[2, 2, 1\] with a label uint8\[2, 2\]"):
        read_samples(tmp_path / "other.npz")
