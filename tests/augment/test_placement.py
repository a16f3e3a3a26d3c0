"""Crops of canvases at the images' own scale lie where the host's offset puts them, whatever else is drawn."""

import functools

import jax
import numpy as np
import pytest
from representatives import representatives

from flaxseg.augment import canvas_size, make_augment
from flaxseg.data.crops import cut_canvases
from flaxseg.data.types import IGNORE_LABEL, Example

CROP = (12, 16)


def ramp(size: tuple[int, int]) -> Example:
    """Returns an image whose channels are the row and the column of each pixel."""
    image = np.stack([*np.indices(size, np.float32), np.ones(size, np.float32)], -1)
    return {"image": image, "label": np.zeros(size, np.uint8), "id": ""}


def crops(size, offsets, scale, **strengths):
    """Returns the crops of an image of a size, one per offset, as image and label."""
    offsets = np.asarray(offsets, np.float32)
    canvas = canvas_size(CROP, scale, keep=True)
    batch = cut_canvases([ramp(size)] * len(offsets), offsets, canvas)
    augmented = compiled(scale, tuple(strengths.items()))(jax.random.key(0), batch)
    return np.asarray(augmented["image"]), np.asarray(augmented["label"])


@functools.cache
def compiled(scale, strengths):
    return jax.jit(make_augment(crop_size=CROP, scale=scale, **dict(strengths)))


@functools.cache
def augment_at(zoom):
    """Returns an augmentation that only zooms; compiled once for all images, whose canvases have one size."""
    return jax.jit(make_augment(crop_size=CROP, scale=(zoom, zoom)))


OFFSETS = np.random.default_rng(0).uniform(0, 1, (24, 2))
CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_canvas_holds_what_the_smallest_scale_shows() -> None:
    assert canvas_size((100, 200), (0.5, 2.0), keep=True) == (200, 400)
    assert canvas_size((256, 256), (0.8, 1.3), keep=True) == (320, 320)
    assert canvas_size((256, 256), (1.0, 1.0), keep=True) == (256, 256)
    assert canvas_size((100, 100), (0.7, 1.0), keep=True) == (143, 143)


@pytest.mark.parametrize("size", [(12, 16), (40, 50), (12, 50), (20, 17)])
def test_at_scale_1_crops_are_parts_of_the_image_and_reach_its_edges(size) -> None:
    image, label = crops(size, [*CORNERS, *OFFSETS], (1.0, 1.0))
    assert (label == 0).all()
    offsets = np.array([*CORNERS, *OFFSETS])
    begin = np.rint(offsets * (np.array(size) - CROP))
    for axis in (0, 1):
        expected = begin[:, axis, None] + np.arange(CROP[axis])
        actual = image[:, :, 0, 0] if axis == 0 else image[:, 0, :, 1]
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(12, 16), (13, 17), (40, 50), (20, 90)])
@pytest.mark.parametrize("zoom", representatives([0.5, 0.8, 1.0, 1.5], [0.5, 1.5]))
def test_a_crop_lies_within_the_image_wherever_it_fits(size, zoom) -> None:
    # The range admits this zoom only, apart from the canvas, which has to hold the smallest scale.
    offsets = np.asarray([*CORNERS, *OFFSETS], np.float32)
    batch = cut_canvases([ramp(size)] * len(offsets), offsets, canvas_size(CROP, (0.5, 1.5), keep=True))
    augmented = augment_at(zoom)(jax.random.key(0), batch)
    label = np.asarray(augmented["label"])
    covered = np.minimum(np.array(size) * zoom, CROP)
    valid = (label != IGNORE_LABEL).any(2).sum(1), (label != IGNORE_LABEL).any(1).sum(1)
    for axis in (0, 1):
        assert (abs(valid[axis] - covered[axis]) <= 1).all()
    # The first and the last crop reach the edges of the image.
    if zoom == 1.5:
        rows = np.asarray(augmented["image"])[:, :, 5, 0]
        np.testing.assert_allclose(rows[0, 0], 0, atol=0.2)
        np.testing.assert_allclose(rows[3, -1], size[0] - 1, atol=0.2)


def test_positions_are_uniform_over_the_image_for_every_zoom() -> None:
    offsets = np.stack([np.linspace(0, 1, 101)] * 2, -1)
    batch = cut_canvases([ramp((60, 60))] * 101, offsets.astype(np.float32), (24, 32))
    augmented = jax.jit(make_augment(crop_size=CROP, scale=(2.0, 2.0)))(jax.random.key(0), batch)
    top = np.asarray(augmented["image"])[:, 0, 8, 0]
    # A crop of 12 at zoom 2 shows 6 rows, so its center moves evenly from 3 to 57; host rounding is half a pixel.
    np.testing.assert_allclose(top + 0.25, offsets[:, 0] * 54, atol=0.51)


def test_a_flip_leaves_the_crop_where_it_is() -> None:
    plain, _ = crops((40, 50), OFFSETS, (0.5, 0.5))
    flipped, _ = crops((40, 50), OFFSETS, (0.5, 0.5), flip=1.0)
    np.testing.assert_allclose(flipped[:, :, ::-1], plain, atol=1e-4)
    _, label = crops((9, 11), OFFSETS, (0.5, 1.0), flip=1.0)
    assert ((label != IGNORE_LABEL).sum((1, 2)) >= 0.2 * 9 * 11).all()


def test_quarter_turns_of_a_square_crop_keep_its_pixels() -> None:
    batch = cut_canvases([ramp((40, 50))] * len(OFFSETS), OFFSETS.astype(np.float32), (12, 12))
    turned = jax.jit(make_augment(crop_size=(12, 12), rotate90=1.0))(jax.random.key(1), batch)
    np.testing.assert_allclose(
        np.sort(np.asarray(turned["image"])[..., 0].reshape(len(OFFSETS), -1)),
        np.sort(batch["image"][..., 0].reshape(len(OFFSETS), -1)),
        atol=1e-3,
    )
    assert (np.asarray(turned["label"]) == 0).all()


def test_a_crop_with_less_of_one_class_is_taken_from_the_same_canvas() -> None:
    example = ramp((40, 60))
    example["label"][:, 30:] = 1
    batch = cut_canvases([example] * 16, np.random.default_rng(1).uniform(0, 1, (16, 2)).astype(np.float32), (24, 60))
    augment = jax.jit(make_augment(crop_size=CROP, scale=(0.999, 1.0), max_class_fraction=0.75))
    augmented = augment(jax.random.key(0), batch)
    ones = np.asarray(augmented["label"] == 1).mean((1, 2))
    assert ((ones >= 0.2) & (ones <= 0.8)).sum() >= 14
    assert (np.asarray(augmented["label"]) != IGNORE_LABEL).all()
