"""Contact sheets: which images are chosen, how they are shrunk, and that all of them are shown."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data.types import SegmentationDataset
from flaxseg.inspection.contact_sheet import batch_sheet, draw_sheet, evenly_spaced, thumbnail

PALETTE = ((250, 0, 250), (0, 250, 0))
DATASET = SegmentationDataset(ListSource(), 2, ("sky", "cat"), PALETTE)


def sheet(thumbnails):
    return draw_sheet(thumbnails, "title", DATASET, np.array([0.25, 0.75]), 0.5)


def test_evenly_spaced_includes_first_and_last():
    places = np.array([2, 3, 5, 7, 11, 13, 17])
    assert evenly_spaced(places, 3) == [2, 7, 17]
    assert evenly_spaced(places, 100) == places.tolist()
    assert evenly_spaced(places, 1) == [2] and evenly_spaced(places[:0], 5) == []


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (6, np.float32)])
def test_thumbnail_shrinks_an_image_before_drawing_its_label(channels, dtype):
    label = np.zeros((400, 800), np.uint8)
    label[:, 400:] = 1
    pixels, caption = thumbnail(np.zeros((400, 800, channels), dtype), label, "x" * 100, PALETTE)
    assert pixels.shape == (150, 300, 3)
    # The outline is one column wide, whatever the original size.
    np.testing.assert_array_equal(np.flatnonzero((pixels == PALETTE[0]).all((0, 2))), [149])
    assert caption == "..." + "x" * 39


def test_thumbnail_without_a_label_is_the_image():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    pixels, caption = thumbnail(image, None, "short", PALETTE)
    np.testing.assert_array_equal(pixels, image)
    assert caption == "short"


def test_every_thumbnail_is_on_the_sheet():
    grays = (50, 100, 150, 170, 200)
    thumbnails = [thumbnail(np.full((20, 30, 3), value, np.uint8), None, "$a$", PALETTE) for value in grays]
    pixels = sheet(thumbnails).reshape(-1, 3)
    areas = [(pixels == value).all(1).sum() for value in grays]
    assert min(areas) > 20_000 and max(areas) < 1.1 * min(areas)
    assert all((pixels == color).all(1).sum() > 50 for color in PALETTE)  # the legend
    assert sheet(thumbnails[:4]).shape[0] < sheet(thumbnails).shape[0]


def test_batch_sheet_shows_images_without_and_with_labels():
    batch = {"image": np.full((14, 20, 30, 3), 90, np.uint8), "label": np.full((14, 20, 30), 255, np.uint8)}
    batch["label"][..., :15] = 1
    file, title, pixels = batch_sheet(3, batch, DATASET)
    assert file == "batch_3.png"
    assert title == "training batch 4 as the network receives it: 12 of 14 images"
    flat = pixels.reshape(-1, 3)
    plain = (flat == 90).all(1).sum()
    tinted = (flat == np.rint(0.6 * 90 + 0.4 * np.array(PALETTE[1]))).all(1).sum()
    # Half of each labeled copy is tinted but for its outline; under the gaps between stripes are ignored pixels.
    assert plain > 12 * 20_000 and 0.4 * plain < tinted < 0.5 * plain
