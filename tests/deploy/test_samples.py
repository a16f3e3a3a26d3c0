"""The images that programs are compared on."""

import dataclasses

import cv2
import numpy as np
import pytest
from exported_networks import trained

from flaxseg.data.stored_samples import StoredSample, write_samples
from flaxseg.deploy.program import Sizes
from flaxseg.deploy.samples import Sample, Samples, find_samples, sample_batches
from flaxseg.errors import DataError


@pytest.fixture(scope="module")
def network():
    return trained("plain_unet", width=2, depth=1, image_size=(20, 30), num_classes=2)


def write_images(folder, count, size=(4, 5)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((*size, 3), 10 * number, np.uint8))


def test_random_images_are_the_same_every_time(network):
    samples, again = (find_samples(network, count=3) for _ in range(2))
    assert str(samples) == "3 random images"
    images = [samples.read(index).image for index in range(3)]
    assert [image.shape for image in images] == [(20, 30, 3)] * 3
    assert all(0 <= image.min() < image.max() <= 255 for image in images)
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(images, [again.read(index).image for index in range(3)])


@pytest.mark.parametrize(
    ("sizes", "shapes"),
    [
        (Sizes(16, 16), [(4, 32, 32), (2, 32, 32), (1, 48, 64)]),
        (Sizes(16, 64), [(4, 64, 64), (2, 64, 64), (1, 80, 96)]),
        (Sizes(16, 20, fixed=(20, 30)), [(4, 20, 30), (2, 20, 30), (1, 20, 30)]),
    ],
)
def test_batches_have_several_sizes_where_the_program_allows(network, sizes, shapes):
    batches = list(sample_batches(find_samples(network, count=7), sizes, network))
    assert [images.shape[:3] for images, _ in batches] == shapes
    assert all(images.dtype == np.float32 and label is None for images, label in batches)


def test_stored_samples_are_preferred_to_random_images(network, tmp_path):
    image, label = np.full((20, 30, 3), 7, np.uint8), np.full((20, 30), 1, np.uint8)
    write_samples(tmp_path / "samples.npz", [StoredSample(image, label, "a")] * 3)
    run = dataclasses.replace(network, folder=tmp_path)
    samples = find_samples(run, count=2)
    assert str(samples) == "2 of the run's stored samples"
    np.testing.assert_array_equal(samples.read(1).image, image)
    ((images, labels), *_) = sample_batches(samples, Sizes(1, 1), run)
    assert images.shape == (1, 20, 30, 3) and labels.shape == (1, 20, 30) and labels.min() == 1
    (tmp_path / "samples.npz").unlink()
    assert str(find_samples(run, count=2)) == "2 random images"


def test_images_of_a_folder(network, tmp_path):
    write_images(tmp_path, 3)
    samples = find_samples(network, count=2, data=tmp_path)
    assert str(samples) == f"2 images of the folder {tmp_path.name}"
    assert [samples.read(index).image.mean() for index in range(2)] == [0, 10]
    assert samples.read(0).label is None


def test_a_folder_of_images_and_masks_has_labels(network, tmp_path):
    write_images(tmp_path / "images", 3)
    (tmp_path / "masks").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.full((4, 5), number % 2, np.uint8))
    samples = find_samples(network, count=20, data=tmp_path)
    assert str(samples) == f"3 images and masks of the folder {tmp_path.name}"
    assert [(samples.read(i).image.mean(), samples.read(i).label.mean()) for i in range(3)] == [
        (0, 0),
        (10, 1),
        (20, 0),
    ]
    batches = list(sample_batches(samples, Sizes(2, 2), network))
    assert [label.shape for _, label in batches] == [(2, 20, 30), (1, 22, 34)]
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), np.full((4, 5), 9, np.uint8))
    with pytest.raises(DataError, match=r"masks/0\.png.* 9"):
        find_samples(network, count=20, data=tmp_path).read(0)


def test_images_that_keep_their_scale_are_cropped_or_padded_with_what_the_network_pads_with(network):
    description = dataclasses.replace(network.description, resize="keep", mean=5.0, std=2.0)
    keep = dataclasses.replace(network, description=description, model=description.build())
    ramp = np.arange(40, dtype=np.float32).reshape(4, 10)
    sample = Sample(np.repeat(ramp[..., None], 3, 2), (ramp % 2).astype(np.uint8))
    samples = Samples("ramps", 1, lambda index: sample)
    ((images, labels),) = sample_batches(samples, Sizes(2, 2, fixed=(6, 4)), keep)
    np.testing.assert_array_equal(images[0, :4, :, 1], ramp[:, 3:7])
    assert (images[0, 4:] == 5).all() and (labels[0, 4:] == 255).all()
    np.testing.assert_array_equal(labels[0, :4], (ramp % 2)[:, 3:7])


def test_images_of_a_folder_are_brought_to_the_scale_of_the_network(network, tmp_path):
    keep = dataclasses.replace(network, description=dataclasses.replace(network.description, resize="keep", scale=0.5))
    write_images(tmp_path, 1, (8, 12))
    assert find_samples(keep, count=1, data=tmp_path).read(0).image.shape == (4, 6, 3)


def test_images_that_do_not_fit_are_named(network, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: is not a folder; give a folder of images"):
        find_samples(network, count=1, data=tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images; give a folder of images, or of images/ and masks/"):
        find_samples(network, count=1, data=tmp_path)
    np.save(tmp_path / "wide.npy", np.zeros((4, 5, 4), np.uint8))
    with pytest.raises(DataError, match=r"wide\.npy: has 4 channels, and the network takes 3"):
        find_samples(network, count=1, data=tmp_path).read(0)
