"""Checks that compare two splits: each defect alone."""

from made_statistics import make_statistics

from flaxseg.inspection.comparison_checks import (
    check_class_balance,
    check_leakage,
    check_matching_channels,
    check_missing_classes,
)


def test_channels_must_agree():
    (found,) = check_matching_channels(make_statistics(channels=[4]), make_statistics(), options=())
    assert found.severity == "error" and "4 channels in train and 3 in eval" in found.text and not found.settings
    assert check_matching_channels(make_statistics(), make_statistics(), options=()) == []
    (repairable,) = check_matching_channels(make_statistics(channels=[1]), make_statistics(), options=("channels",))
    assert [setting.arguments for setting in repairable.settings] == [{"channels": 3}, {"channels": 1}]


def test_evaluation_images_that_are_training_images():
    counts = [[1, 1, 0]] * 3
    train = make_statistics(counts, digests=(b"a", b"b", b"a"))
    evaluation = make_statistics(counts, digests=(b"c", b"b", b"d"))
    (found,) = check_leakage(train, evaluation)
    assert found.severity == "warning"
    assert "1 of 3 eval images are also in train" in found.text and "e1 (train: e1)" in found.text


def test_missing_classes():
    names = ("sky", "cat", "dog", "fox")
    train, evaluation = make_statistics([[1, 1, 0, 0, 0]]), make_statistics([[1, 0, 1, 0, 0]])
    assert [finding.text for finding in check_missing_classes(train, evaluation, names)] == [
        "1 of 4 classes occur in eval but never in train, so they cannot be learned: dog",
        "1 of 4 classes never occur: fox",
        "1 of 4 classes never occur in eval, so they have no scores, or an IoU of 0 if they are predicted: cat",
    ]
    assert check_missing_classes(train, train, names)[0].text == "2 of 4 classes never occur: dog, fox"


def test_a_dataset_of_ones_own_in_a_published_layout_is_read_as_a_folder():
    names, layout = ("background", "aeroplane", "bicycle", "bird", "boat"), {"images": "JPEGImages"}
    split = make_statistics([[4, 2, 0, 0, 0, 1]])
    (found,) = check_missing_classes(split, split, names, layout=layout)
    assert found.severity == "warning" and found.text.startswith("3 of 5 classes never occur: bicycle, bird, boat. ")
    assert ": check that the masks show aeroplane. Images and classes of your own in the same layout " in found.text
    assert [setting.arguments for setting in found.settings] == [
        {"config": "folder", "images": "JPEGImages", "class_names": ("background", "NAME_1")}
    ]
    # Where half of the classes occur, or the classes are not those of a published dataset, nothing is suggested.
    half = make_statistics([[4, 2, 3, 0, 0, 1]])
    for given, options in ((half, layout), (split, {})):
        (found,) = check_missing_classes(given, given, names, layout=options)
        assert found.settings == () and found.text.endswith(": bird, boat" if given is half else "bicycle, bird, boat")


def test_one_class_alone_cannot_be_learned():
    only = make_statistics([[4, 0, 0], [2, 0, 3]])
    found = check_missing_classes(only, make_statistics([[1, 1, 0]]), ("sky", "cat"))
    assert [finding.severity for finding in found] == ["error", "warning"]
    assert found[0].text.startswith(
        "train: only one class, sky, occurs in the masks, so there is nothing to distinguish"
    )


def test_class_balance():
    names = ("sky", "cat")
    (found,) = check_class_balance(make_statistics([[96, 4, 0]]), names)
    assert "the class sky covers 96.00% of the valid pixels and cat 4.00%" in found.text
    assert check_class_balance(make_statistics([[95, 5, 500]]), names) == []
    assert check_class_balance(make_statistics([[74, 0, 0]]), names) == []
    assert len(check_class_balance(make_statistics([[60, 38, 2, 0]]), ("a", "b", "c"))) == 1
