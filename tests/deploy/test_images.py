"""Files, Pillow images and arrays reach the network with the same values, or are refused with the reason."""

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from flaxseg.deploy.images import ImageReader
from flaxseg.errors import ArgumentError, DataError
from flaxseg.inference.description import ModelDescription


def reader(**changes):
    fields = {
        "name": "plain_unet", "options": {}, "num_classes": 2, "channels": 3, "image_size": (4, 6),
        "class_names": ("a", "b"), "palette": ((0, 0, 0), (1, 1, 1)), "mean": 0.0, "std": 1.0, "resize": "keep",
    }  # fmt: skip
    return ImageReader(ModelDescription(**{**fields, **changes}))


RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GRAY = RGB[..., 0]


def test_gray_and_rgb_become_what_the_network_has():
    np.testing.assert_array_equal(reader()(GRAY).pixels, np.repeat(GRAY[..., None], 3, 2))
    np.testing.assert_array_equal(reader(channels=1)(GRAY).pixels, GRAY[..., None])
    luma = np.rint(RGB @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    np.testing.assert_array_equal(reader(channels=1)(RGB).pixels[..., 0], luma)
    assert reader(channels=5)(np.zeros((5, 7, 5), np.uint8)).pixels.shape == (5, 7, 5)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((5, 7, 4), 3, "has 4 channels, .* images of 3; if the fourth is transparency, give image"),
        ((5, 7, 1), 5, "has 1 channel, .* images of 5; give an image of 5 channels, in the order of the training"),
        ((5, 7), 5, "has 1 channel, .* images of 5; give an image of 5 channels"),
        ((5, 7, 2), 1, "has 2 channels, .* images of 1; give an RGB image, or a gray one"),
    ],
)
def test_another_number_of_channels_is_refused(shape, channels, message):
    with pytest.raises(DataError, match=f"the image: {message}"):
        reader(channels=channels)(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16", "CMYK"])
def test_a_pillow_image_has_the_values_of_its_file(tmp_path, mode):
    image = Image.fromarray(RGB).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(GRAY.astype(np.uint16) * 257)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    if mode != "CMYK":  # A TIFF keeps the four channels of its file.
        np.testing.assert_allclose(reader()(path).pixels, reader()(image).pixels, atol=1e-4)
    assert reader()(image).pixels.shape == (5, 7, 3)


def test_exif_orientation_is_applied_to_files_and_pillow_images(tmp_path):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "a.png", exif=exif)
    for given in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        found = reader()(given)
        np.testing.assert_array_equal(found.pixels, np.rot90(RGB, -1))
        assert found.size == (7, 5)


def test_sixteen_bits_and_value_ranges(tmp_path):
    stored = (GRAY.astype(np.uint16) * 16)[..., None]
    tifffile.imwrite(tmp_path / "a.tif", stored[..., 0])
    found = reader(channels=1, value_range=(0, 4080))(tmp_path / "a.tif").pixels
    np.testing.assert_allclose(found[..., 0], GRAY, atol=1e-3)
    np.testing.assert_allclose(reader(channels=1, value_range=(0, 4080))(stored).pixels, found)
    np.testing.assert_allclose(reader(channels=1)(stored).pixels[..., 0], GRAY * (16 * 255 / 65535), atol=1e-3)


def test_images_are_resized_as_the_run_resized_them():
    assert reader(resize="stretch")(RGB).pixels.shape == (4, 6, 3)
    assert reader(resize="keep")(RGB).pixels.shape == (5, 7, 3)
    assert reader(resize="keep", scale=2.0)(RGB).pixels.shape == (10, 14, 3)
    assert reader(resize="stretch")(RGB).size == (5, 7)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((2, 5, 7, 3), np.uint8),
            r"must have the shape \[H, W\] or \[H, W, C\]; give several images as a list",
        ),
        (np.zeros((0, 7, 3), np.uint8), r"must have the shape"),
        (np.zeros((3, 5, 7), np.uint8), r"must have its 3 channels last, .* image.transpose\(1, 2, 0\)"),
        (np.zeros((5, 7), np.int64), r"int64\[5, 7\].*: must be uint8, uint16, or float"),
        (np.zeros((5, 7), bool), "must be uint8"),
        (np.array([["a"]]), "must be uint8"),
        (np.full((5, 7), 0.5), "but none is above 0.5; multiply an image in 0..1 by 255"),
        (np.full((5, 7), -2.0), "but has -2 to -2; undo its normalization"),
        (np.full((5, 7), 256.0), "must have values in 0..255"),
        (np.full((5, 7), np.nan), "must have values in 0..255"),
        (None, "must have the shape"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ArgumentError, match=f"image = .*{message}"):
        reader()(image)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    for read in (reader(), reader().original):
        with pytest.raises(DataError, match=r"a\.jpg: does not exist; did you mean 'a\.png'\?; give the path"):
            read(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"there/x\.png: does not exist; give the path"):
        reader()(tmp_path / "there" / "x.png")
    with pytest.raises(DataError, match="is a folder; give the path of one image, or a list of paths"):
        reader()(tmp_path)
    with pytest.raises(DataError, match=r"a.png: is not an image of a known format"):
        reader()(tmp_path / "a.png")
