"""The images that programs are compared on."""

import cv2
import numpy as np
import pytest
from exported_networks import trained

from flaxseg.deploy.program import Sizes
from flaxseg.deploy.samples import sample_batches, sample_images
from flaxseg.errors import DataError


@pytest.fixture(scope="module")
def description():
    return trained("plain_unet", width=2, depth=1, image_size=(20, 30)).description


def test_random_images_are_the_same_every_time(description):
    images = sample_images(description, count=3)
    assert [image.shape for image in images] == [(20, 30, 3)] * 3
    assert all(image.dtype == np.float32 and 0 <= image.min() < image.max() <= 255 for image in images)
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(images, sample_images(description, count=3))


@pytest.mark.parametrize(
    ("sizes", "shapes"),
    [
        (Sizes(16, 16), [(4, 32, 32), (2, 32, 32), (1, 48, 32)]),
        (Sizes(16, 64), [(4, 64, 64), (2, 64, 64), (1, 80, 64)]),
        (Sizes(16, 20, fixed=(20, 30)), [(4, 20, 30), (2, 20, 30), (1, 20, 30)]),
    ],
)
def test_batches_have_several_sizes_where_the_program_allows(description, sizes, shapes):
    batches = list(sample_batches(sample_images(description, count=7), sizes, (20, 30)))
    assert [batch.shape[:3] for batch in batches] == shapes


def test_images_of_a_folder(description, tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 5, 3), number, np.uint8))
    assert [image.mean() for image in sample_images(description, count=2, folder=tmp_path)] == [0, 1]


def test_images_that_do_not_fit_are_named(description, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: is not a folder; give a folder of images"):
        sample_images(description, count=1, folder=tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images"):
        sample_images(description, count=1, folder=tmp_path)
    np.save(tmp_path / "wide.npy", np.zeros((4, 5, 4), np.uint8))
    with pytest.raises(DataError, match=r"wide\.npy: has 4 channels, and the network takes 3"):
        sample_images(description, count=1, folder=tmp_path)
