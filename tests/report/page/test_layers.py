"""Images of a report: what their pixels show, and how large their files are."""

import base64
import io

import numpy as np
from PIL import Image

from flaxseg.report.page.layers import class_layer, encode_layers, error_layer, png

PALETTE = ((10, 20, 30), (200, 100, 50))


def decode(uri):
    head, _, content = uri.partition(",")
    kind = head.removeprefix("data:image/").removesuffix(";base64")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.format.lower() == kind
        return np.asarray(image.convert("RGBA"))


def test_errors_correct_and_ignored_pixels_differ():
    label, prediction = np.zeros((8, 16), np.uint8), np.zeros((8, 16), np.uint8)
    label[:, 4:8] = 1
    label[:, 8:] = 255
    layer = error_layer(label, prediction, (214, 31, 72))
    assert {tuple(pixel) for pixel in layer[:, :4].reshape(-1, 4).tolist()} == {(246, 246, 244, 190)}
    assert {tuple(pixel) for pixel in layer[:, 4:8].reshape(-1, 4).tolist()} == {(214, 31, 72, 235)}
    stripes = layer[:, 8:]
    assert set(stripes[..., 3].ravel().tolist()) == {0, 255} and (stripes[..., 3] == 255).mean() == 0.5


def test_classes_have_their_colors_and_opaque_outlines():
    label = np.zeros((4, 6), np.uint8)
    label[:, 3:] = 1
    layer = class_layer(label, PALETTE)
    np.testing.assert_array_equal(layer[0, 0], (*PALETTE[0], 0))  # Nearly black.
    np.testing.assert_array_equal(layer[0, 2], (*PALETTE[0], 255))
    np.testing.assert_array_equal(layer[0, 3], (*PALETTE[1], 120))
    np.testing.assert_array_equal(class_layer(label, PALETTE[::-1])[0, 0], (*PALETTE[1], 120))


def test_png_files_are_exact_with_few_and_with_many_colors():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 2, (9, 7, 4)).astype(np.uint8) * 200
    many = rng.integers(0, 256, (40, 40, 4)).astype(np.uint8)
    for layer, mode in ((few, "P"), (many, "RGBA")):
        with Image.open(io.BytesIO(png(layer))) as image:
            assert image.mode == mode
            np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), layer)


def test_large_images_shrink_and_small_ones_grow():
    rng = np.random.default_rng(0)
    for shape, size in (
        ((1000, 500), (400, 200)),
        ((32, 48), (160, 240)),
        ((300, 260), (300, 260)),
        ((5, 900), (2, 400)),
    ):
        label = np.zeros(shape, np.uint8)
        image = rng.integers(0, 256, (*shape, 3), np.uint8) // 64 + 100
        found, uris = encode_layers(image, label, label, PALETTE)
        assert found == size
        assert [decode(uri).shape[:2] for uri in uris[1:]] == [size] * 3
        assert decode(uris[0]).shape[:2] == tuple(np.minimum(size, shape))
        assert (decode(uris[3])[..., 3] == 190).all()


def test_noise_is_bounded_in_size():
    rng = np.random.default_rng(0)
    image, label, prediction = (
        rng.integers(0, 256, (400, 400, 3), np.uint8),
        *rng.integers(0, 60, (2, 400, 400), np.uint8),
    )
    palette = [tuple(color) for color in rng.integers(0, 256, (60, 3)).tolist()]
    size, uris = encode_layers(image, label, prediction, palette)
    assert size == (150, 150) and sum(map(len, uris)) < 140_000


def test_a_prediction_of_another_size_and_an_image_of_one_channel():
    label = np.zeros((40, 60), np.uint8)
    prediction = np.ones((20, 30), np.uint8)
    _, uris = encode_layers(np.full((40, 60, 1), 77.0, np.float32), label, prediction, PALETTE)
    assert np.abs(decode(uris[0])[..., :3].astype(int) - 77).max() <= 2
    assert (decode(uris[3])[..., 0] == 255).all()
