"""The script behind docs/gallery.md, and what it wrote."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from list_source import ListSource
from PIL import Image

from flaxseg.data import DATASETS, SegmentationDataset

DOCS = Path(__file__).resolve().parent.parent / "docs"
GALLERY = runpy.run_path(str(DOCS / "gallery.py"))
COLORS = ((230, 159, 0), (40, 40, 48), (86, 180, 233))


class ByBrightness:
    """Predicts class 0 where an image is dark, and class 1 elsewhere."""

    classes, palette = ("pet", "background", "border"), COLORS

    def __call__(self, image):
        return [self(each) for each in image] if isinstance(image, list) else (image[..., 0] > 127).astype(np.uint8)

    def uncertainty(self, image):
        return np.full(image.shape[:2], np.log(3), np.float32)


@pytest.fixture
def photographs(monkeypatch):
    """Ten white images whose n-th has n rows of class 0, which the predictor takes for class 1."""
    label = np.ones((10, 20, 30), np.uint8)
    for index in range(10):
        label[index, :index] = 0
    label[:, -1] = 255
    examples = [
        {"image": np.full((20, 30, 3), 200, np.uint8), "label": each, "id": f"p{n}"} for n, each in enumerate(label)
    ]
    dataset = SegmentationDataset(ListSource(examples), 3, ByBrightness.classes, COLORS)
    monkeypatch.setitem(
        DATASETS, "oxford_iiit_pet", lambda split, data_dir: {("test", "DIR"): dataset}[split, data_dir]
    )


def test_results_are_sorted_by_the_score_of_single_images(photographs):
    results = GALLERY["predicted"](ByBrightness(), "DIR")
    assert [result.name for result in results] == [f"p{n}" for n in range(9, -1, -1)]
    # Of 19 valid rows, n are of class 0, whose IoU is 0, unless it is absent; that of class 1 is (19 - n) / 19.
    assert [result.score for result in results] == pytest.approx([(19 - n) / 38 for n in range(9, 0, -1)] + [1.0])
    quantiles = GALLERY["at_quantiles"](results, (1.0, 0.5, 0.0))
    assert [result.name for result in quantiles] == ["p0", "p5", "p9"]


def test_the_script_writes_the_images_and_their_sources(photographs, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("flaxseg.load", {"RUN": ByBrightness()}.__getitem__, raising=False)
    GALLERY["main"](["--model=RUN", "--data=DIR", f"--output={tmp_path / 'images'}"])
    names = ["overlays", "best_and_worst", "uncertainty", "large"]
    assert sorted(path.name for path in tmp_path.glob("images/*")) == sorted(
        ["LICENSE.txt", *(f"{n}.jpg" for n in names)]
    )
    panel, gap = (210, 280), 6
    with Image.open(tmp_path / "images" / "uncertainty.jpg") as image:
        assert image.size == (3 * panel[1] + 2 * gap, 3 * panel[0] + 2 * gap)
        # The entropy of equal probabilities is the lightest color; there is a text in the corner.
        assert np.abs(np.asarray(image)[105, -100] - np.array((252, 253, 191))).max() < 8
    with Image.open(tmp_path / "images" / "large.jpg") as image:
        assert image.size == (5 * 30 // 2, 2 * 20 // 2)
    sources = (tmp_path / "images" / "LICENSE.txt").read_text()
    assert "best_and_worst.jpg: p0, p1, p7, p8, p9\n" in sources
    assert f"large.jpg: {', '.join(f'p{n}' for n in range(10))}\n" in sources
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_pages_images_are_small_and_their_sources_are_named():
    images = sorted(path for path in (DOCS / "images").iterdir() if path.suffix != ".txt")
    assert 0 < sum(path.stat().st_size for path in images) < 1_500_000
    page, sources = (path.read_text() for path in (DOCS / "gallery.md", DOCS / "images" / "LICENSE.txt"))
    assert sorted(re.findall(r"!\[.+\]\(images/(.+)\)", page)) == [path.name for path in images]
    assert "CC BY-SA 4.0" in page and "Attribution-ShareAlike 4.0" in sources
    for path in images:
        assert re.search(rf"^  {path.name}: \w+_\d+(, \w+_\d+)*$", sources, re.MULTILINE), path.name
