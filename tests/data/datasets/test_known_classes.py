import pytest

from flaxseg.data.datasets.known_classes import KNOWN, names_of, palette_of
from flaxseg.data.masks.palette import default_palette


def test_the_tables_have_the_classes_of_their_benchmarks():
    sizes = {name: len(classes) for name, classes in KNOWN.items()}
    assert sizes == {"ade20k": 150, "cocostuff": 171, "cityscapes": 19, "voc": 21}
    assert list(KNOWN["cocostuff"].items())[2:4] == [("car", (0, 64, 96)), ("motorcycle", (128, 192, 192))]
    assert list(KNOWN["ade20k"].items())[:3] == [
        ("wall", (120, 120, 120)),
        ("building", (180, 120, 120)),
        ("sky", (6, 230, 230)),
    ]
    assert list(KNOWN["ade20k"].items())[-1] == ("flag", (92, 0, 255))


@pytest.mark.parametrize("dataset", KNOWN)
def test_colors_are_found_by_names_in_any_order_and_spelling(dataset):
    names, colors = zip(*reversed(KNOWN[dataset].items()), strict=True)
    assert palette_of([f"{name.upper()} " for name in names]) == colors


def test_other_classes_have_the_default_colors():
    assert palette_of(["road", "sky"]) == default_palette(2)
    names = [*list(KNOWN["cityscapes"])[:-1], "kangaroo"]
    assert palette_of(names) == (*list(KNOWN["cityscapes"].values())[:-1], default_palette(19)[-1])


def test_names_are_found_by_the_name_of_a_dataset():
    assert names_of("[ADE20K](https://ade20k.example)", 150)[0] == "wall"
    assert names_of("COCO-Stuff 164k", 171)[-1] == "wood"
    assert names_of("ADE20K", 151) == () and names_of("lab data", 150) == () and names_of("", 150) == ()
