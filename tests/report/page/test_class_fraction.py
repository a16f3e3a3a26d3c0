"""The chart of the IoU of classes by their fraction of the pixels: where the names of the classes are."""

import re
import types

import numpy as np

from flaxseg.report.page.class_fraction import by_fraction
from flaxseg.report.page.plot import WIDTH


def test_names_stay_within_the_chart():
    """A name of wide letters, of a class near the right end, is on the left of its dot, or left out."""
    shown = 0
    for fraction in range(2, 98):
        names = ("background", "o")
        content = types.SimpleNamespace(
            counts=np.array([[fraction, 0], [0, 100 - fraction]]),
            class_names=names,
            intervals={"iou": np.full((2, 2), np.nan)},
        )
        chart = str(by_fraction(content))
        for kind, x in re.findall(r'<text class="(name|name end)" x="([\d.]+)" y="[\d.]+">background<', chart):
            # Ten letters at 11.5 pixels are 70 pixels wide in DejaVu Sans.
            assert (float(x) + 70 < WIDTH) if kind == "name" else float(x) > 70
            shown += 1
    assert shown > 80
