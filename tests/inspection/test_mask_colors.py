"""Mask colors without a class: what is reported, and which settings are suggested."""

import numpy as np
import pytest
from made_statistics import make_statistics

from flaxseg.data.masks.class_colors import ClassColors, colored_mask_error
from flaxseg.data.statistics import Problem
from flaxseg.errors import UnknownColors
from flaxseg.inspection.mask_colors import check_unknown_colors

FOLDER = ("colors", "ignore_colors", "class_names")
BLACK, RED, BROWNISH, REDDISH, WHITE = (0, 0, 0), (255, 0, 0), (120, 70, 10), (250, 9, 9), (255, 255, 255)


def check(*masks, colors=(), **options):
    """The finding about masks of these colors, and its settings."""
    problems = []
    for place, mask in enumerate(masks):
        pixels = np.array([mask], np.uint8)
        if colors:
            with pytest.raises(UnknownColors) as caught:
                ClassColors(colors).to_classes(pixels, name=f"m{place}")
            error = caught.value
        else:
            error = colored_mask_error(pixels, name=f"m{place}")
        problems.append(Problem(place, str(error), error))
    (finding,) = check_unknown_colors([make_statistics(problems=problems)], **{"options": FOLDER} | options)
    assert finding.severity == "error"
    return finding, [setting.arguments for setting in finding.settings]


def test_colors_and_first_names_of_the_classes_are_suggested():
    finding, settings = check([RED, BLACK, BLACK], [REDDISH, BROWNISH, BLACK])
    assert finding.text.startswith(
        "2 masks are color images, but the colors of the classes are not set; they contain: (0,0,0) (3 pixels, 2 masks)"
    )
    names = ("black", "brown", "red", "red_2")
    assert settings == [{"colors": (BLACK, BROWNISH, REDDISH, RED), "class_names": names}]
    assert finding.settings[0].when == "if each of them is a class; give them better names"


def test_white_may_be_ignored():
    finding, settings = check([RED, BLACK, WHITE])
    assert settings == [
        {"colors": (BLACK, RED, WHITE), "class_names": ("black", "red", "white")},
        {"colors": (BLACK, RED), "class_names": ("black", "red"), "ignore_colors": (WHITE,)},
    ]
    assert finding.settings[1].when == "if white pixels are to be ignored; give them better names"


def test_given_names_are_kept():
    assert check([RED, BLACK], class_names=("sky", "cat"))[1] == [{"colors": (BLACK, RED)}]
    _, settings = check([RED, BLACK], colors=(BLACK,), class_names=("red",))
    assert settings == [{"colors": (BLACK, RED), "class_names": ("red", "red_2")}, {"ignore_colors": (RED,)}]
    finding, settings = check([RED, BLACK], class_names="names.txt")
    assert settings == [{"colors": (BLACK, RED)}]
    assert finding.settings[0].when.endswith("which then need names in names.txt")


def test_names_and_colors_of_a_table_are_suggested():
    table = {"Void": WHITE, "Wall": BROWNISH, "Floor": BLACK, "Cat": RED}
    named = {"colors": (BROWNISH, BLACK, RED), "class_names": ("Wall", "Floor", "Cat"), "ignore_colors": (WHITE,)}
    finding, settings = check([RED, BLACK], [WHITE], class_table=table)
    assert settings == [named] and finding.settings[0].when == "if the classes are those of class_dict.csv"
    finding, settings = check([RED, REDDISH], class_table=table)
    assert settings == [named | {"ignore_colors": (WHITE, REDDISH)}]
    assert finding.settings[0].when.endswith("class_dict.csv, and all other colors are to be ignored")
    assert check([RED], class_table={"cat": RED})[1] == [{"colors": (RED,), "class_names": ("cat",)}]


@pytest.mark.parametrize("given", [{"class_names": ("a", "b")}, {"colors": (BLACK,)}, {"class_table": {"VOID": RED}}])
def test_a_table_is_not_suggested_where_it_does_not_fit(given):
    _, settings = check([RED, BLACK] if "colors" not in given else [RED], **{"class_table": {"Cat": RED}} | given)
    assert (BLACK, RED) in [setting.get("colors") for setting in settings]
    assert not any("Cat" in setting.get("class_names", ()) for setting in settings)


def test_a_dataset_with_fixed_colors_gets_no_setting():
    finding, settings = check([RED, BLACK], options=("task",))
    assert settings == [] and "the dataset 'folder'" in finding.text


def test_a_color_without_a_class_is_that_of_a_class_that_occurs_nowhere():
    names, wrong = ("sky", "cat", "dog", "fox"), (BLACK, (250, 100, 0), (255, 40, 9), WHITE)
    finding, settings = check([BLACK, RED], [BLACK, BROWNISH, WHITE], colors=wrong, class_names=names)
    # White occurs only in a mask that cannot be used.
    assert "cat has (250,100,0) and dog has (255,40,9), which occur nowhere. One" in finding.text
    assert finding.settings[0].when == "if (120,70,10) is cat and (255,0,0) is dog"
    assert settings[0] == {"colors": (BLACK, BROWNISH, RED, WHITE)}
    assert settings[1]["colors"] == (*wrong, BROWNISH, RED) and settings[2] == {"ignore_colors": (RED, BROWNISH)}
    finding, settings = check([RED, BLACK], colors=(BLACK, REDDISH, BROWNISH), class_names="names.txt")
    assert (finding.settings[0].when, settings[0]) == ("if (255,0,0) is class 1", {"colors": (BLACK, RED, BROWNISH)})


def test_a_color_that_a_usable_mask_has_is_right():
    with pytest.raises(UnknownColors) as error:
        ClassColors((BLACK, WHITE)).to_classes(np.array([[RED]], np.uint8), name="m")
    splits = [make_statistics([[1, 1, 0]], problems=[Problem(0, error.value.fact, error.value)])]
    (finding,) = check_unknown_colors(splits, options=FOLDER, class_names=("sky", "cat"))
    assert [setting.when for setting in finding.settings] == [
        "if these are additional classes; give them better names",
        "if these pixels are to be ignored",
    ]


@pytest.mark.parametrize(("number", "expected"), [(8, False), (9, True)])
def test_many_colors_may_come_from_interpolation(number, expected):
    finding, _ = check([BLACK, *((level, 7, 9) for level in range(number))], colors=(BLACK,))
    assert ("interpolated" in finding.text) == expected
