"""Names of colors, among them those in which datasets draw their classes."""

import pytest

from flaxseg.inspection.color_names import color_name


@pytest.mark.parametrize(
    ("name", "colors"),
    [
        ("black", [(0, 0, 0), (20, 30, 25)]),
        ("gray", [(128, 128, 128), (60, 60, 80), (192, 192, 192)]),
        ("white", [(255, 255, 255), (240, 240, 230)]),
        ("red", [(255, 0, 0), (250, 9, 9), (220, 20, 60)]),
        ("dark_red", [(128, 0, 0), (64, 0, 0)]),
        ("pink", [(255, 128, 192), (192, 128, 128)]),
        ("orange", [(255, 128, 0)]),
        ("brown", [(128, 64, 0), (120, 70, 10)]),
        ("yellow", [(255, 255, 0)]),
        ("olive", [(128, 128, 0), (64, 64, 0)]),
        ("green", [(0, 255, 0), (64, 128, 64), (107, 142, 35)]),
        ("dark_green", [(0, 128, 0), (0, 64, 0)]),
        ("light_green", [(152, 251, 152)]),
        ("cyan", [(0, 255, 255)]),
        ("teal", [(0, 128, 128)]),
        ("blue", [(0, 0, 255), (60, 40, 222), (64, 64, 128), (0, 128, 192)]),
        ("dark_blue", [(0, 0, 128), (0, 0, 142)]),
        ("violet", [(128, 0, 255)]),
        ("dark_violet", [(64, 0, 128)]),
        ("magenta", [(255, 0, 255), (192, 0, 128)]),
        ("purple", [(128, 0, 128)]),
    ],
)
def test_a_color_is_named_by_its_hue(name, colors):
    assert [color_name(color) for color in colors] == [name] * len(colors)
