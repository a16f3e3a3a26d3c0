"""Checks of one split: each defect alone, with the setting that repairs it."""

import numpy as np
import pytest
from made_statistics import make_statistics, unknown_value_problems

from flaxseg.data.statistics import Problem
from flaxseg.inspection.mask_values import check_unknown_values
from flaxseg.inspection.split_checks import check_image_size, check_split, check_unreadable, check_value_range

FOLDER = ("values", "ignore_values", "reduce_zero_label", "class_names", "channels")


def severities(findings):
    return [finding.severity for finding in findings]


def arguments(finding):
    return [setting.arguments for setting in finding.settings]


def test_unreadable_examples_are_an_error_unless_training_skips_them():
    broken = [Problem(1, "cut off"), *unknown_value_problems([9], values=(0, 1))]
    splits = {
        "train": make_statistics([[1, 1, 0]], problems=broken),
        "eval": make_statistics(problems=broken[:1]),
        "other": make_statistics(),
    }
    (found,) = check_unreadable(splits, skip_bad=2)
    assert found.severity == "error"
    assert found.text.startswith("1 of 3 train examples and 1 of 2 eval examples cannot be decoded")
    assert arguments(found) == [{"skip_bad": 3}]
    (tolerated,) = check_unreadable(splits, skip_bad=3)
    assert tolerated.severity == "warning" and "training skips them, as skip_bad = 3 allows" in tolerated.text
    assert check_unreadable({"train": make_statistics(problems=broken[1:])}, skip_bad=0) == []
    given = {"options": FOLDER}
    assert severities(check_unknown_values(list(splits.values()), **given, skip_bad=2)) == ["error"]
    assert severities(check_unknown_values(list(splits.values()), **given, skip_bad=3)) == ["warning"]


def test_skipping_is_not_suggested_where_nothing_is_usable():
    nothing = make_statistics(np.zeros((0, 3)), problems=[Problem(0, "cut off")])
    (found,) = check_unreadable({"train": nothing}, skip_bad=0)
    assert found.severity == "error" and found.settings == ()


def test_low_contrast_and_clipping_of_images_with_more_than_8_bits():
    given = {"options": ("value_range",)}
    dark = make_statistics(is_float=[True], values=(160 / 257, 3664 / 257))
    (found,) = check_value_range({"train": dark}, None, **given)
    assert found.severity == "warning"
    text = "train: value_range = (0.0, 65535.0) becomes 0..255, and the images use only 0.623 to 14.3"
    assert found.text.startswith(text)
    assert arguments(found) == [{"value_range": (160.0, 3664.0)}]
    darker = make_statistics(is_float=[True], values=(80 / 257, 400 / 257))
    (found,) = check_value_range({"train": dark, "eval": darker}, None, **given)
    assert found.text.startswith("train and eval: ") and arguments(found) == [{"value_range": (80.0, 3664.0)}]
    (found,) = check_value_range({"train": make_statistics(is_float=[True], values=(51, 102))}, (-1, 1), **given)
    assert arguments(found) == [{"value_range": (-0.6, -0.2)}]
    (found,) = check_value_range(
        {"train": make_statistics(is_float=[True], clipped_fractions=(0.0, 0.9))}, (0, 255), **given
    )
    assert found.severity == "warning" and "0.00% of the values are 0 and 90.00% are 255" in found.text
    for fine in (make_statistics(is_float=[True], clipped_fractions=(0.3, 0.01)), make_statistics(values=(0, 9))):
        assert check_value_range({"train": fine}, None, **given) == []


def test_ignored_masks_and_missing_examples():
    (found,) = check_split("train", make_statistics([[1, 1, 0], [0, 0, 2]]), options=FOLDER)
    assert found.severity == "warning"
    assert found.text == "train: 1 of 2 masks are fully ignored and contribute nothing: e1"
    assert check_split("train", make_statistics(), options=FOLDER) == []
    (ignored,) = check_split("eval", make_statistics([[0, 0, 4]]), options=FOLDER)
    assert ignored.severity == "error" and "every pixel of every mask is ignored" in ignored.text
    (none,) = check_split("eval", make_statistics(np.zeros((0, 3))), options=FOLDER)
    assert none.severity == "error" and "has no examples" in none.text
    nothing_usable = make_statistics(np.zeros((0, 3)), problems=unknown_value_problems([9], values=(0,)))
    (unusable,) = check_split("eval", nothing_usable, options=FOLDER)
    assert unusable.text == "eval: none of its 1 examples can be used"


def test_exif_orientations_that_keep_the_size():
    shape = {"sizes": [(8, 8), (8, 8), (8, 9), (8, 9)], "orientations": [1, 6, 3, 6]}
    (found,) = check_split("train", make_statistics([[1, 1, 0]] * 4, **shape), options=FOLDER)
    assert found.severity == "warning" and found.text.startswith("train: 2 images are rotated or mirrored")
    assert found.text.endswith("check the labels in train.png: e1, e2")


def test_bit_depths_and_channels_must_agree():
    both = [[1, 1, 0]] * 2
    (mixed,) = check_split("train", make_statistics(both, is_float=[True, False]), options=FOLDER)
    assert mixed.severity == "error" and "1 of 2 images have more than 8 bits" in mixed.text
    (differ,) = check_split("train", make_statistics(both, channels=[1, 3]), options=FOLDER)
    assert differ.severity == "error" and "1 (1 images), 3 (1 images)" in differ.text
    assert arguments(differ) == [{"channels": 3}, {"channels": 1}]
    (no_setting,) = check_split("train", make_statistics(both, channels=[3, 4]), options=FOLDER)
    assert no_setting.settings == ()


def test_duplicates_within_a_split():
    train = make_statistics([[1, 1, 0]] * 3, digests=(b"a", b"b", b"a"))
    (found,) = check_split("train", train, options=FOLDER)
    assert found.severity == "warning"
    assert found.text == "train: 1 image repeats another, pixel for pixel: e0 = e2"


@pytest.mark.parametrize(
    ("sizes", "texts", "settings"),
    [
        ([(100, 200)] * 3, [], []),
        ([(300, 500)] * 3, ["shrinks them 2.5 times"], [{"resize": "keep"}]),
        ([(60, 80), (60, 80), (900, 900)], ["2 of 3 images are smaller"], [{"image_size": (60, 80)}]),
        ([(200, 100)] * 3, ["distorts them 4.0 times"], [{"image_size": (200, 100)}]),
        (
            [(300, 2400)] * 3,
            ["shrinks them 3.0 times", "distorts them 4.0 times"],
            [{"resize": "keep"}, {"image_size": (50, 400)}],
        ),
    ],
)
def test_image_sizes(sizes, texts, settings):
    found = check_image_size("train", make_statistics([[1, 1, 0]] * 3, sizes=sizes), (100, 200))
    assert len(found) == len(texts) and all(text in finding.text for text, finding in zip(texts, found, strict=True))
    assert [arg for finding in found for arg in arguments(finding)] == settings
    assert all(finding.severity == "note" for finding in found)
