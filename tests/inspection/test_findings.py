"""From facts to findings: each defect alone, with the setting that would repair it."""

import numpy as np
import pytest

from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.statistics import Problem, Statistics
from flaxseg.errors import UnknownValues
from flaxseg.inspection import findings
from flaxseg.inspection.findings import flag
from flaxseg.inspection.mask_values import of_inferred_values, of_silent_values, of_unknown_values

FOLDER = ("values", "ignore_values", "reduce_zero_label", "class_names", "channels")
VALUES, IGNORE = "--config.data.options.values=", "--config.data.options.ignore_values="


def facts(
    counts=((1, 1, 0),),
    sizes=None,
    channels=None,
    problems=(),
    digests=None,
    wide=None,
    values=(0, 255),
    at_ends=(0, 0),
    orientations=None,
):
    """The facts of pictures with these pixels of each class and, last, ignored ones."""
    counts = np.array(counts)
    number = len(counts)
    return Statistics(
        num_classes=counts.shape[1] - 1,
        places=np.arange(number),
        ids=tuple(f"e{i}" for i in range(number)),
        sizes=np.array(sizes or [(8, 8)] * number).reshape(-1, 2),
        channels=np.array(channels or [3] * number),
        orientations=np.array(orientations or [1] * number),
        counts=counts,
        wide=np.array(wide or [False] * number),
        value_range=values,
        at_ends=at_ends,
        mean=np.zeros(3),
        std=np.ones(3),
        digests=digests or tuple(bytes([i]) for i in range(number)),
        hashes=np.zeros((number, 2), np.uint64),
        problems=tuple(problems),
    )


def masks_with(*masks, values, ignore_values=()):
    """The problems that masks of these values give."""
    found = []
    for place, mask in enumerate(masks):
        with pytest.raises(UnknownValues) as caught:
            ClassValues(values, ignore_values).to_classes(np.array([mask], np.uint8), name=f"m{place}")
        found.append(Problem(place, str(caught.value), caught.value))
    return found


def of_masks(*masks, values, ignore_values=(), counts=None, options=FOLDER, named=False):
    split = facts(
        counts or [[0] * (len(values) + 1)], problems=masks_with(*masks, values=values, ignore_values=ignore_values)
    )
    (finding,) = of_unknown_values([split], options=options, named=named)
    assert finding.severity == "error"
    return finding, [setting.flags for setting in finding.settings]


def test_a_flag_is_ready_for_a_shell():
    assert flag("data.options.values", (0, 255)) == "--config.data.options.values='(0,255)'"
    assert flag("data.options.ignore_values", (11,)) == "--config.data.options.ignore_values='(11,)'"
    assert flag("data.options.reduce_zero_label", True) == "--config.data.options.reduce_zero_label=True"


def test_masks_of_other_values_get_a_value_map():
    finding, settings = of_masks([0, 0, 0, 128], [128, 128, 128, 128], values=(0, 1))
    assert "2 masks hold 1 value(s) that belong to no class: 128 (62.50% of all pixels, 2 masks)" in finding.text
    assert settings == [f"{VALUES}'(0,128)'"]
    assert of_masks([1, 2, 3], values=(0, 1, 2))[1][0] == f"{VALUES}'(1,2,3)'"


def test_a_value_past_the_last_class_is_void_or_the_classes_are_numbered_from_one():
    # A mask that can be used has classes 0 and 1; its pixels count in the shares.
    finding, settings = of_masks([2, 3, 255, 255], values=(0, 1, 2), counts=[[3, 1, 0, 0]])
    assert "3 (12.50% of all pixels, 1 masks)" in finding.text
    assert settings == ["--config.data.options.reduce_zero_label=True", f"{IGNORE}'(3,)'", f"{VALUES}'(0,1,2,3)'"]
    assert [setting.when for setting in finding.settings] == [
        "if 0 is background that is not to be learnt, and the classes are 1 to 3",
        "if these pixels are void",
        "if these are further classes",
    ]


def test_without_the_option_zero_is_reduced_by_values():
    _, settings = of_masks([0, 1, 2, 9], values=(0, 1), ignore_values=(9,), options=("values", "ignore_values"))
    assert settings[0] == f"{VALUES}'(1,2)' {IGNORE}'(9,0)'"
    assert settings[1] == f"{IGNORE}'(9,2)'"


def test_zero_beside_named_classes_is_ignored():
    finding, settings = of_masks([0, 1, 2, 0], values=(1, 2), named=True)
    assert settings == [f"{IGNORE}'(0,)'", f"{VALUES}'(1,2,0)'"]
    assert finding.settings[0].when == "if 0 is background that is not to be learnt"
    assert finding.settings[1].when.endswith("and get names in data.options.class_names")


def test_smoothly_resized_masks_are_told_to_be_exported_again():
    finding, settings = of_masks([0] * 500 + [255] * 500 + list(range(10, 20)), values=(0, 255))
    assert "export them again" in finding.text and "and resized by the nearest pixel" in finding.text
    assert settings == []
    assert "export them again" in of_masks(list(range(100)), values=(0, 1))[0].text
    # As many values on as many pixels as classes have are classes.
    assert of_masks(list(range(12)), values=(0, 1, 2))[1][-1] == f"{VALUES}'({','.join(map(str, range(12)))})'"


def test_a_data_set_of_fixed_values_gets_no_setting():
    finding, settings = of_masks([0, 7], values=(0, 1), options=("task",))
    assert settings == [] and "data.name=folder" in finding.text


def test_white_that_is_ignored_by_itself():
    silent = [facts([[5, 0, 3]]), facts([[1, 0, 0]])]
    given = {"values": (0, 1), "ignored": (), "options": FOLDER}
    (finding,) = of_silent_values(silent, **given)
    assert finding.severity == "warning"
    assert [setting.flags for setting in finding.settings] == [f"{VALUES}'(0,255)'"]
    assert of_silent_values([facts([[5, 0, 3]]), facts([[1, 1, 0]])], **given) == []
    assert of_silent_values([facts([[5, 0, 0]])], **given) == []
    for other in ({"options": ()}, {"ignored": (255,)}, {"values": (0, (1, 255))}):
        assert of_silent_values(silent, **given | other) == []


def test_masks_of_one_and_of_255_side_by_side():
    given = {"values": (0, 1), "ignored": (), "options": FOLDER}
    mixed = facts([[5, 3, 0], [4, 4, 0], [6, 0, 2], [7, 0, 1], [0, 0, 8]])
    (finding,) = of_silent_values([mixed], **given)
    assert finding.severity == "warning"
    assert finding.text.startswith("2 masks hold the second class, 2 others ignored pixels, none both")
    assert [setting.flags for setting in finding.settings] == [f"{VALUES}'(0,(1,255))'"]
    # Where one mask holds both, 255 is void.
    assert of_silent_values([mixed, facts([[5, 2, 1]])], **given) == []


def test_another_value_of_a_class_may_join_it():
    finding, settings = of_masks([0, 2, 0, 2], values=(0, 1), counts=[[3, 1, 0]])
    assert f"{VALUES}'(0,(1,2))'" in settings
    assert finding.settings[settings.index(f"{VALUES}'(0,(1,2))'")].when == "if 2 means the same as 1"
    _, settings = of_masks([0, 7, 9], values=(0, (1, 7)), counts=[[3, 1, 0]])
    assert f"{VALUES}'(0,(1,7),9)'" in settings


def test_values_that_were_read_off_the_masks():
    (finding,) = of_inferred_values([0, 1, 2, 3], np.full(4, 0.25), (), options=FOLDER)
    assert [setting.flags for setting in finding.settings] == [
        f"{VALUES}'(0,1,2,3)'",
        f"{IGNORE}'(3,)'",
        "--config.data.options.reduce_zero_label=True",
    ]
    assert finding.text.endswith("every value found in the masks is a class: 0 to 3")
    (finding,) = of_inferred_values([1, 2, 4], np.full(3, 1 / 3), (7,), options=FOLDER)
    assert [setting.flags for setting in finding.settings] == [f"{VALUES}'(1,2,4)'"]
    assert finding.text.endswith("is a class: 1, 2, 4")


def test_values_read_off_smoothly_resized_masks():
    values, shares = [0, *range(20, 40)], np.array([0.96, *[0.002] * 20])
    (finding,) = of_inferred_values(values, shares, (), options=FOLDER)
    assert finding.severity == "warning" and not finding.settings
    assert "16 of them have 3.20% of the pixels together" in finding.text and "export them again" in finding.text
    (finding,) = of_inferred_values(values, np.full(21, 1 / 21), (), options=FOLDER)
    assert finding.severity == "note"


def kinds(found):
    return [finding.severity for finding in found]


def test_unusable_examples_are_an_error_unless_they_are_skipped():
    broken = [Problem(1, "cut off"), *masks_with([9], values=(0, 1))]
    splits = {"train": facts([[1, 1, 0]], problems=broken), "eval": facts(problems=broken[:1]), "other": facts()}
    (found,) = findings.of_problems(splits, skip_bad=2)
    assert found.severity == "error"
    assert found.text.startswith("1 of 3 train examples and 1 of 2 eval examples cannot be decoded")
    assert [setting.flags for setting in found.settings] == ["--config.data.skip_bad=3"]
    assert kinds(findings.of_problems(splits, skip_bad=3)) == ["warning"]
    assert findings.of_problems({"train": facts(problems=broken[1:])}, skip_bad=0) == []
    of_values = {"options": FOLDER, "named": False}
    assert kinds(of_unknown_values(list(splits.values()), **of_values, skip_bad=2)) == ["error"]
    assert kinds(of_unknown_values(list(splits.values()), **of_values, skip_bad=3)) == ["warning"]


def test_where_nothing_is_usable_nothing_is_suggested_to_be_skipped():
    nothing = facts(np.zeros((0, 3)), problems=[Problem(0, "cut off")])
    (found,) = findings.of_problems({"train": nothing}, skip_bad=0)
    assert found.severity == "error" and found.settings == ()


def test_wide_pictures_that_hardly_use_their_range_or_go_past_it():
    given = {"options": ("value_range",)}
    dark = facts(wide=[True], values=(160 / 257, 3664 / 257))
    (found,) = findings.of_value_range("train", dark, None, **given)
    assert (
        found.severity == "warning"
        and "values are 0.623 to 14.3 of the 0..255 that (0.0, 65535.0) becomes" in found.text
    )
    assert [setting.flags for setting in found.settings] == ["--config.data.options.value_range='(160.0,3664.0)'"]
    (found,) = findings.of_value_range("train", facts(wide=[True], values=(51, 102)), (-1, 1), **given)
    assert [setting.flags for setting in found.settings] == ["--config.data.options.value_range='(-0.6,-0.2)'"]
    (found,) = findings.of_value_range("train", facts(wide=[True], at_ends=(0.0, 0.9)), (0, 255), **given)
    assert found.severity == "warning" and "0.00% of the values are 0 and 90.00% are 255" in found.text
    for fine in (facts(wide=[True], at_ends=(0.3, 0.01)), facts(values=(0, 9))):
        assert findings.of_value_range("train", fine, None, **given) == []


def test_what_is_wrong_within_a_split():
    (found,) = findings.of_split("train", facts([[1, 1, 0], [0, 0, 2]]), options=FOLDER)
    assert found.severity == "warning"
    assert "train: 1 of 2 masks are ignored as a whole and teach nothing: e1" in found.text
    assert findings.of_split("train", facts(), options=FOLDER) == []
    (empty,) = findings.of_split("eval", facts([[0, 0, 4]]), options=FOLDER)
    assert empty.severity == "error" and "every pixel of every mask is ignored" in empty.text
    (none,) = findings.of_split("eval", facts(np.zeros((0, 3))), options=FOLDER)
    assert none.severity == "error" and "has no examples" in none.text


def test_pictures_that_a_turn_leaves_at_their_size():
    shape = {"sizes": [(8, 8), (8, 8), (8, 9), (8, 9)], "orientations": [1, 6, 3, 6]}
    (found,) = findings.of_split("train", facts([[1, 1, 0]] * 4, **shape), options=FOLDER)
    assert found.severity == "warning" and found.text.startswith("train: 2 pictures are turned or mirrored")
    assert found.text.endswith("look at train.png: e1, e2")


def test_channels_have_to_be_the_same():
    both = [[1, 1, 0]] * 2
    (within,) = findings.of_split("train", facts(both, channels=[1, 3]), options=FOLDER)
    (mixed,) = findings.of_split("train", facts(both, wide=[True, False]), options=FOLDER)
    assert mixed.severity == "error" and "1 of 2 pictures have more than 8 bits" in mixed.text
    (no_setting,) = findings.of_split("train", facts(both, channels=[3, 4]), options=FOLDER)
    assert no_setting.settings == ()
    (unusable,) = findings.of_split(
        "eval", facts(np.zeros((0, 3)), problems=masks_with([9], values=(0,))), options=FOLDER
    )
    assert unusable.text == "eval: none of its 1 examples can be used"
    assert within.severity == "error" and "1 (1 pictures), 3 (1 pictures)" in within.text
    assert [setting.flags for setting in within.settings] == [
        "--config.data.options.channels=3",
        "--config.data.options.channels=1",
    ]
    (across,) = findings.of_channels(facts(channels=[4]), facts(), options=())
    assert across.severity == "error" and "4 channels in train and 3 in eval" in across.text and not across.settings
    assert findings.of_channels(facts(), facts(), options=()) == []


def test_pictures_that_are_there_twice():
    counts = [[1, 1, 0]] * 3
    train, evaluation = facts(counts, digests=(b"a", b"b", b"a")), facts(counts, digests=(b"c", b"b", b"d"))
    (within,) = findings.of_split("train", train, options=FOLDER)
    assert within.severity == "warning" and "1 picture(s) are there again, pixel for pixel: e0 = e2" in within.text
    (across,) = findings.of_duplicates(train, evaluation)
    assert across.severity == "warning"
    assert "1 of 3 eval pictures are in train too" in across.text and "e1 (train: e1)" in across.text


def test_no_more_than_ten_are_listed():
    assert findings.listed([str(i) for i in range(13)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"


def test_missing_classes():
    names = ("sky", "cat", "dog", "fox")
    train, evaluation = facts([[1, 1, 0, 0, 0]]), facts([[1, 0, 1, 0, 0]])
    texts = [finding.text for finding in findings.of_classes(train, evaluation, names)]
    assert texts == [
        "1 of 4 classes occur in eval but never in train, so nothing teaches them: dog",
        "1 of 4 classes never occur: fox",
        "1 of 4 classes never occur in eval, so no score tells how well they are learnt: cat",
    ]
    assert findings.of_classes(train, train, names)[0].text == "2 of 4 classes never occur: dog, fox"


def test_balance():
    names = ("sky", "cat")
    (found,) = findings.of_balance(facts([[76, 24, 0]]), names)
    assert "class sky has 76.00% of the pixels and cat 24.00%" in found.text
    assert findings.of_balance(facts([[74, 26, 500]]), names) == []
    assert findings.of_balance(facts([[74, 0, 0]]), names) == []
    assert len(findings.of_balance(facts([[60, 38, 2, 0]]), ("a", "b", "c"))) == 1


@pytest.mark.parametrize(
    ("sizes", "texts", "flags"),
    [
        ([(100, 200)] * 3, [], []),
        ([(300, 500)] * 3, ["shrinks them 2.5 times"], []),
        ([(60, 80), (60, 80), (900, 900)], ["2 of 3 pictures are smaller"], ["--config.data.image_size='(60,80)'"]),
        ([(200, 100)] * 3, ["distorts them 4.0 times"], ["--config.data.image_size='(200,100)'"]),
        (
            [(300, 2400)] * 3,
            ["shrinks them 3.0 times", "distorts them 4.0 times"],
            ["--config.data.image_size='(50,400)'"],
        ),
    ],
)
def test_sizes(sizes, texts, flags):
    found = findings.of_sizes("train", facts([[1, 1, 0]] * 3, sizes=sizes), (100, 200))
    assert len(found) == len(texts) and all(text in finding.text for text, finding in zip(texts, found, strict=True))
    assert [setting.flags for finding in found for setting in finding.settings] == flags
    assert all(finding.severity == "note" for finding in found)
