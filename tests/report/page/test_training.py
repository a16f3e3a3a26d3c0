"""Training curves: long ones are averaged, and peaks do not flatten them."""

import re

import numpy as np
from report_pages import parse_page

from flaxseg.report.page.content import Curve
from flaxseg.report.page.html import element
from flaxseg.report.page.training import chart


def elements(svg, name, class_):
    page = f"<!DOCTYPE html>\n{element('html', element('body', svg), lang='en')}"
    return parse_page(page).all(name, class_)


def test_long_curves_are_averaged_over_neighbors():
    steps = np.arange(1, 1001)
    (line,) = elements(chart([Curve("r", steps, np.tile([0.0, 1.0], 500))], "loss"), "polyline", "curve")
    points = np.array([[float(value) for value in point.split(",")] for point in line.attributes["points"].split()])
    assert len(points) == 200  # of five steps each, whose means alternate between 0.4 and 0.6
    assert len(set(points[:, 1].tolist())) == 2
    np.testing.assert_allclose(np.diff(points[:, 0]), (320 - 62) / 200, atol=0.11)


def test_rare_peaks_are_cut_off():
    values = np.full(100, 0.5)
    values[::2] = 1.0
    values[3] = 1e6
    svg = chart([Curve("r", np.arange(100), values)], "loss")
    ticks = [float(text.text) for text in elements(svg, "text", "end") if re.fullmatch(r"[\d.]+", text.text)]
    assert max(ticks) == 1.5 and min(ticks) == 0


def test_eight_runs_are_drawn_at_most():
    curves = [Curve(f"r{index}", np.arange(3), np.arange(3.0), 1) for index in range(10)]
    assert len(elements(chart(curves, "loss"), "polyline", "curve")) == 8
