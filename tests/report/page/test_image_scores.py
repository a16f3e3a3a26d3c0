"""The distribution of image scores, and their correlation with the size."""

import numpy as np
import pytest
from report_pages import parse_page
from scipy import stats

from flaxseg.report.page.content import ImageScores
from flaxseg.report.page.html import element
from flaxseg.report.page.image_scores import by_size, distribution, rank_correlation


def scores(iou, sizes):
    iou = np.asarray(iou, float)
    return ImageScores([f"i{index}" for index in range(len(iou))], iou, iou, np.asarray(sizes))


def elements(svg, name, class_=None):
    page = f"<!DOCTYPE html>\n{element('html', element('body', svg), lang='en')}"
    return parse_page(page).all(name, class_)


def test_bins_of_the_distribution_and_the_mean():
    bars = distribution(scores([0, 0.049, 0.05, 1, 1], np.ones((5, 2), int)))
    assert [bar.text for bar in elements(bars, "rect")] == [
        "2 images with an IoU of 0.00 to 0.05", "1 images with an IoU of 0.05 to 0.10",
        "2 images with an IoU of 0.95 to 1.00",
    ]  # fmt: skip
    assert elements(bars, "polyline", "mean")[0].text == "mean 0.4198"


def test_rank_correlation_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (2, 40))
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(np.arange(4), np.arange(4)[::-1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation(first, np.ones(40)))


def test_dots_of_many_images_are_a_regular_selection():
    dots = elements(by_size(scores(np.linspace(0, 1, 3001), np.stack([np.arange(10, 3011)] * 2, axis=1))), "circle")
    assert len(dots) == 1500
    assert dots[0].text == "i0\n10 \u00d7 10 pixels\nIoU 0.000" and dots[-1].text.startswith("i3000\n")
