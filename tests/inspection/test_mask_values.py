"""Mask values without a class: what is reported, and which settings are suggested."""

import numpy as np
from made_statistics import make_statistics, unknown_value_problems

from flaxseg.inspection.mask_values import check_ignored_class, check_inferred_values, check_unknown_values

FOLDER = ("values", "ignore_values", "reduce_zero_label", "class_names", "channels")


def check_masks(*masks, values, ignore_values=(), counts=None, options=FOLDER, class_names=()):
    """The finding about masks with unknown values beside usable masks of `counts`, and its settings."""
    problems = unknown_value_problems(*masks, values=values, ignore_values=ignore_values)
    split = make_statistics(counts or [[0] * (len(values) + 1)], problems=problems)
    (finding,) = check_unknown_values([split], options=options, class_names=class_names)
    assert finding.severity == "error"
    return finding, [setting.arguments for setting in finding.settings]


def test_as_many_values_as_classes_are_the_values_of_the_classes():
    finding, settings = check_masks([0, 0, 0, 128], [128, 128, 128, 128], values=(0, 1))
    assert "2 masks contain 1 value that belongs to no class: 128 (62.50% of all pixels, 2 masks)" in finding.text
    assert settings == [{"values": (0, 128)}]
    assert check_masks([1, 2, 3], values=(0, 1, 2))[1][0] == {"values": (1, 2, 3)}


def test_a_value_past_the_last_class_is_ignored_or_the_classes_are_numbered_from_one():
    # A usable mask has classes 0 and 1; its pixels are part of the total.
    finding, settings = check_masks([2, 3, 255, 255], values=(0, 1, 2), counts=[[3, 1, 0, 0]])
    assert "3 (12.50% of all pixels, 1 mask)" in finding.text
    assert settings == [{"reduce_zero_label": True}, {"ignore_values": (3,)}, {"values": (0, 1, 2, 3)}]
    assert [setting.when for setting in finding.settings] == [
        "if 0 is background to be ignored, and the classes are 1 to 3",
        "if these pixels are to be ignored",
        "if these are additional classes",
    ]


def test_without_reduce_zero_label_the_values_are_set():
    _, settings = check_masks([0, 1, 2, 9], values=(0, 1), ignore_values=(9,), options=("values", "ignore_values"))
    assert settings[0] == {"values": (1, 2), "ignore_values": (9, 0)}
    assert settings[1] == {"ignore_values": (9, 2)}


def test_zero_beside_named_classes_is_ignored():
    finding, settings = check_masks([0, 1, 2, 0], values=(1, 2), class_names=("cat", "sky"))
    assert settings == [{"ignore_values": (0,)}, {"values": (1, 2, 0)}]
    assert finding.settings[0].when == "if 0 is background to be ignored"
    assert finding.settings[1].when.endswith(", which then need names in class_names")


def test_one_name_less_than_values_may_lack_the_background():
    finding, settings = check_masks([0, 1, 2, 255], values=(0, 1), class_names=("cat", "dog"))
    assert finding.text == (
        "1 mask contains 1 value that belongs to no class: 2 (25.00% of all pixels, 1 mask). class_names has 2 names, "
        "but the masks have 3 values; is 'background' missing? One of these settings may be right:"
    )
    assert settings[0] == {"values": (0, 1, 2), "class_names": ("background", "cat", "dog")} and len(settings) == 5
    assert settings[1:] == check_masks([0, 1, 2, 255], values=(0, 1))[1]
    for names, mask in ((("Background", "dog"), [0, 1, 2]), (("cat", "dog"), [0, 1, 2, 3]), (("cat", "dog"), [1, 2])):
        other, _ = check_masks(mask, values=(0, 1), class_names=names)
        assert "missing" not in other.text + other.settings[0].when


def test_interpolated_masks_should_be_exported_again():
    finding, settings = check_masks([0] * 500 + [255] * 500 + list(range(10, 20)), values=(0, 255))
    assert "export them again" in finding.text and "resized by nearest neighbor" in finding.text
    assert settings == []
    assert "export them again" in check_masks(list(range(100)), values=(0, 1))[0].text
    # Many values that cover as many pixels as classes do are classes.
    assert check_masks(list(range(12)), values=(0, 1, 2))[1][-1] == {"values": tuple(range(12))}


def test_a_dataset_with_fixed_values_gets_no_setting():
    finding, settings = check_masks([0, 7], values=(0, 1), options=("task",))
    assert settings == [] and "the dataset 'folder'" in finding.text


def test_255_may_be_a_second_class_that_never_occurs():
    ambiguous = [make_statistics([[5, 0, 3]]), make_statistics([[1, 0, 0]])]
    (finding,) = check_ignored_class(ambiguous, (0, 1))
    assert finding.severity == "warning"
    assert [setting.arguments for setting in finding.settings] == [{"values": (0, 255)}]
    assert check_ignored_class([make_statistics([[5, 0, 3]]), make_statistics([[1, 1, 0]])], (0, 1)) == []
    assert check_ignored_class([make_statistics([[5, 0, 0]])], (0, 1)) == []
    assert check_ignored_class(ambiguous, ()) == []


def test_255_may_be_one_of_several_classes():
    split = make_statistics([[5, 1, 0, 3], [1, 0, 0, 0]])
    (finding,) = check_ignored_class([split], (0, 1, 2))
    assert finding.severity == "note"
    assert finding.text.startswith("30.00% of all pixels are ignored, but 1 of 3 classes have none: 255 is ignored ")
    assert [(each.when, each.arguments) for each in finding.settings] == [
        ("if the masks contain 0, 1 and 255", {"values": (0, 1, 255)})
    ]
    (finding,) = check_ignored_class([make_statistics([[0, 5, 0, 3]])], (0, (1, 2), 3))
    (setting,) = finding.settings
    assert (finding.severity, setting.arguments) == ("warning", {"values": ((1, 2), 255)})
    assert setting.when == "if the masks contain 1, 2 and 255; the masks then have 2 classes to name"
    for counts in ([[5, 1, 0, 0]], [[5, 1, 1, 3]], [[0, 0, 0, 3]]):
        assert check_ignored_class([make_statistics(counts)], (0, 1, 2)) == []


def test_255_may_be_the_second_class_of_some_masks():
    mixed = make_statistics([[5, 3, 0], [4, 4, 0], [6, 0, 2], [7, 0, 1], [0, 0, 8]])
    (finding,) = check_ignored_class([mixed], (0, 1))
    assert finding.severity == "warning"
    assert finding.text.startswith("2 masks contain the second class, 2 others ignored pixels, none both")
    assert [setting.arguments for setting in finding.settings] == [{"values": (0, (1, 255))}]
    # In a mask that holds both, 255 cannot be the second class.
    assert check_ignored_class([mixed, make_statistics([[5, 2, 1]])], (0, 1)) == []


def test_an_unknown_value_may_join_the_second_of_two_classes():
    finding, settings = check_masks([0, 2, 0, 2], values=(0, 1), counts=[[3, 1, 0]])
    merged = {"values": (0, (1, 2))}
    assert finding.settings[settings.index(merged)].when == "if 2 means the same as 1"
    _, settings = check_masks([0, 7, 9], values=(0, (1, 7)), counts=[[3, 1, 0]])
    assert {"values": (0, (1, 7), 9)} in settings


def test_inferred_values_are_listed():
    (finding,) = check_inferred_values([0, 1, 2, 3], np.full(4, 0.25), (), options=FOLDER)
    assert [setting.arguments for setting in finding.settings] == [
        {"values": (0, 1, 2, 3)},
        {"ignore_values": (3,)},
        {"reduce_zero_label": True},
    ]
    assert finding.text.endswith("every value found in the masks is a class: 0 to 3")
    (finding,) = check_inferred_values([1, 2, 4], np.full(3, 1 / 3), (7,), options=FOLDER)
    assert [setting.arguments for setting in finding.settings] == [{"values": (1, 2, 4)}]
    assert finding.text.endswith("is a class: 1, 2, 4")


def test_inferred_values_of_interpolated_masks_are_a_warning():
    values, fractions = [0, *range(20, 40)], np.array([0.96, *[0.002] * 20])
    (finding,) = check_inferred_values(values, fractions, (), options=FOLDER)
    assert finding.severity == "warning" and not finding.settings
    assert "16 of them cover 3.20% of the pixels together" in finding.text and "export them again" in finding.text
    (finding,) = check_inferred_values(values, np.full(21, 1 / 21), (), options=FOLDER)
    assert finding.severity == "note"


def test_tolerated_masks_are_a_warning():
    problems = unknown_value_problems([9], values=(0, 1))
    splits = [make_statistics(problems=problems), make_statistics(problems=problems), make_statistics()]
    for skip_bad, severity in ((1, "error"), (2, "warning")):
        (finding,) = check_unknown_values(splits, options=FOLDER, skip_bad=skip_bad)
        assert finding.severity == severity
