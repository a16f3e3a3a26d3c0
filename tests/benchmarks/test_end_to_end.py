"""The rate of whole training commands."""

import json

import numpy as np
import pytest
from PIL import Image
from training_folder import generated, linked

from benchmarks import end_to_end


def test_the_rate_of_the_loop_is_that_after_the_first_epoch(tmp_path):
    rows = [
        {"step": 2, "wall_time": 0.0, "train/loss": 1.0},
        {"step": 4, "wall_time": 50.0, "train/loss": 1.0},
        {"step": 6, "wall_time": 51.0, "train/loss": 1.0},
        {"step": 8, "wall_time": 53.0, "train/loss": 1.0},
        {"step": 8, "wall_time": 90.0, "eval/miou": 0.5},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert end_to_end.loop_rate(path, first_step=3, batch=5) == pytest.approx(5 * 4 / 3)


def test_images_with_masks_are_linked_in_two_splits(tmp_path):
    source = tmp_path / "source"
    for folder in ("pictures", "masks"):
        (source / folder).mkdir(parents=True)
    for name in "abcde":
        Image.fromarray(np.full((4, 5, 3), ord(name), np.uint8)).save(source / "pictures" / f"{name}.png")
        if name != "c":
            Image.fromarray(np.full((4, 5), 2, np.uint8)).save(source / "masks" / f"{name}.png")
    found = linked(source, tmp_path / "data", images="pictures", masks="masks", values=[1, 2], train=9, val=1)
    assert (found.train, found.val, found.values) == (3, 1, (1, 2))
    names = {
        split: sorted(path.stem for path in (found.root / split / "images").iterdir()) for split in ("train", "val")
    }
    assert names == {"train": ["a", "b", "d"], "val": ["e"]}
    assert np.asarray(Image.open(found.root / "val" / "masks" / "e.png")).max() == 2


def test_generated_images_have_masks_of_all_classes(tmp_path):
    found = generated(tmp_path, train=3, val=2, size=(40, 48))
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "train" / "masks").iterdir())]
    assert len(masks) == 3 and masks[0].shape == (40, 48)
    assert set(np.unique(masks)) <= set(found.values) == set(range(5))
    assert len(list((tmp_path / "val" / "images").glob("*.jpg"))) == 2


@pytest.mark.long
def test_the_loop_is_compared_with_its_bare_step():
    words = ["loop", "--size", "16", "--images", "16", "--batch", "8", "--steps", "4", "--log", "1", "--rounds", "1"]
    found = end_to_end.measure_loop(end_to_end.parse(words))
    loop, bare, ratio = found["parts"][1]["rows"][0]
    assert ratio["median"] == pytest.approx(loop / bare, abs=2e-3)
    assert 0.1 < ratio["median"] < 2
