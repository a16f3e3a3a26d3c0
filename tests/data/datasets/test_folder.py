"""Folders of images and masks: layouts, splits, values to classes, and every error they can have."""

import pathlib
import random

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues, infer_class_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.sources.split_lists import choose_fraction
from flaxseg.data.splits import unused_lists
from flaxseg.data.types import IGNORE_LABEL, Selection
from flaxseg.errors import DataError, FlaxsegError, MissingMasks, UnknownValues


def write(path: pathlib.Path, values: np.ndarray | list, *, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette(palette)
    image.save(path)


def write_pair(root: pathlib.Path, stem: str, mask: list, images: str = "images", masks: str = "masks") -> None:
    write(root / masks / f"{stem}.png", mask)
    write(root / images / f"{stem}.png", np.repeat(np.asarray(mask, np.uint8)[..., None], 3, 2) + 100)


def ids(dataset) -> list[str]:
    return [dataset.source[i]["id"] for i in range(len(dataset.source))]


def message(split: str, **options: object) -> str:
    with pytest.raises(FlaxsegError) as caught:
        folder(split, **options)
    return str(caught.value)


def test_pairs_by_stem_with_values_as_classes(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "b", [[1, 2], [3, 255]])
    write_pair(tmp_path, "a", [[3, 3]])
    dataset = folder("all", data_dir=str(tmp_path), values=(3, 1, 2), class_names=("x", "y", "z"))
    assert ids(dataset) == ["a", "b"]
    first = tmp_path / "images" / "a.png"
    assert repr(dataset) == f"SegmentationDataset(2 examples, 3 classes: x, y, z; pairs of files, the first {first})"
    assert dataset.class_names == ("x", "y", "z")
    assert dataset.palette == default_palette(3)
    example = dataset.source[1]
    np.testing.assert_array_equal(example["label"], [[1, 2], [0, IGNORE_LABEL]])
    np.testing.assert_array_equal(example["image"][..., 0], [[101, 102], [103, 99]])
    assert example["image"].dtype == example["label"].dtype == np.uint8


def test_nested_folders_and_extensions_in_upper_or_lower_case(tmp_path: pathlib.Path) -> None:
    for image, mask in (
        ("x/1.JPG", "x/1.png"),
        ("y/z/1.jpeg", "y/z/1.GIF"),
        ("2.bmp", "2.TIF"),
        ("3.v1.webp", "3.v1.PNG"),
    ):
        write(tmp_path / "images" / image, np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / mask, np.zeros((4, 5)))
    write(tmp_path / "masks" / "._2.png", np.zeros((4, 5)))
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")
    assert ids(folder("all", data_dir=str(tmp_path), values=(0,))) == ["2", "3.v1", "x/1", "y/z/1"]


def test_suffixes_of_images_and_masks(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "a_left.png", np.zeros((4, 5, 3)))
    write(tmp_path / "masks" / "a_ids.png", np.ones((4, 5)))
    write(tmp_path / "masks" / "a_color.png", np.zeros((4, 5, 3)))
    dataset = folder("all", data_dir=str(tmp_path), image_suffix="_left", mask_suffix="_ids")
    assert ids(dataset) == ["a"] and dataset.class_names == ("1",)


def test_splits_by_folder_name(tmp_path: pathlib.Path) -> None:
    options = {"data_dir": str(tmp_path), "images": "{split}", "masks": "{split}annot"}
    write_pair(tmp_path, "a", [[0, 1]], "train", "trainannot")
    write_pair(tmp_path, "b", [[0, 2]], "val", "valannot")
    train, val = folder("train", **options), folder("val", **options)
    assert (ids(train), ids(val)) == (["a"], ["b"])
    # The classes are those of the whole dataset, no matter which split is opened.
    assert train.class_names == val.class_names == ("0", "1", "2")
    text = message("test", **options)
    assert (
        f"neither the folder {tmp_path}/test nor {tmp_path}/testannot exists" in text
        and "existing splits: train, val)" in text
    )


def test_splits_by_list(tmp_path: pathlib.Path) -> None:
    for stem in ("a", "b", "c"):
        write_pair(tmp_path, stem, [[1, 2]])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.txt").write_text("# name class\nc 1 1\n\n  a 2 2\n")
    options = {"data_dir": str(tmp_path), "split_list": "lists/{split}.txt", "values": (1, 2)}
    assert ids(folder("test", **options)) == ["a", "c"]  # sorted, whatever order the list has
    (tmp_path / "lists" / "odd.txt").write_text("a\nmissing\n")
    text = message("odd", **options)
    assert f"missing, listed in {tmp_path}/lists/odd.txt, has no image and no mask" in text
    assert "cannot be read" in message("train", **options) and "existing splits: odd, test" in message(
        "train", **options
    )


def test_a_dataset_says_how_its_split_was_selected(tmp_path: pathlib.Path) -> None:
    for i in range(10):
        write_pair(tmp_path, str(i), [[0, 1]])
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")

    def selection(split: str, path: str = "") -> Selection | None:
        return folder(split, data_dir=str(tmp_path), split_list=path, values=(0, 1)).selection

    # One list may well be divided, as long as there is none for the other split.
    assert selection("train") == Selection("all but 2 held out at random")
    assert selection("val", "ImageSets/Segmentation/train.txt") == Selection(
        "held out at random from 3 (set split_list to choose them)"
    )
    (lists / "val.txt").write_text("5\n")
    template = "ImageSets/Segmentation/{split}.txt"
    assert selection("val") == Selection("held out at random from 10 (set split_list to choose them)", template)
    assert selection("train", "ImageSets/Segmentation/train.txt") == Selection("all but 1 held out at random", template)
    assert selection("val", template) == Selection("from ImageSets/Segmentation/val.txt")
    assert selection("all") is None
    warning = unused_lists(folder("val", data_dir=str(tmp_path)))
    assert warning == (
        "the files are divided into train and val at random, and the lists ImageSets/Segmentation/train.txt and "
        "ImageSets/Segmentation/val.txt are not used; split_list='ImageSets/Segmentation/{split}.txt' reads them"
    )
    assert unused_lists(folder("val", data_dir=str(tmp_path), split_list=template)) == ""
    by_folder = {"images": "sets/{split}", "masks": "masks"}
    write_pair(tmp_path, "0", [[0, 1]], "sets/val")
    assert folder("val", data_dir=str(tmp_path), **by_folder).selection == Selection("from sets/val")


def test_a_list_without_its_ending_is_named_with_it(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    (tmp_path / "train.txt").write_text("a\n")
    for masks in ("masks", ""):
        with pytest.raises(DataError) as caught:
            folder("train", data_dir=str(tmp_path), masks=masks, split_list="{split}")
        assert caught.value.options == {"split_list": "{split}.txt"}
        assert f"The list {tmp_path}/train.txt exists: add .txt, as in folder(split_list='{{split}}.txt')." in str(
            caught.value
        )
    assert "add .txt" not in message("test", data_dir=str(tmp_path), split_list="{split}")


def test_one_mask_folder_can_serve_several_image_folders(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0]], "images/train")
    write_pair(tmp_path, "b", [[0]], "images/val")
    assert ids(folder("val", data_dir=str(tmp_path), images="images/{split}", values=(0,))) == ["b"]


def test_the_seeded_fraction_partitions_the_pairs_and_is_stable(tmp_path: pathlib.Path) -> None:
    for i in range(20):
        write_pair(tmp_path, f"{i:02}", [[0, 1]])

    def stems(split: str, seed: int = 0) -> set[str]:
        return set(ids(folder(split, data_dir=str(tmp_path), values=(0, 1), val_fraction=0.3, split_seed=seed)))

    assert len(stems("val")) == 6
    assert stems("train") | stems("val") == stems("all") and not stems("train") & stems("val")
    assert stems("val") != stems("val", seed=1)
    text = message("test", data_dir=str(tmp_path))
    assert "split = 'test'" in text and "the splits are train, val, all" in text


def test_the_seeded_fraction_depends_neither_on_the_order_nor_on_the_machine() -> None:
    stems = [f"s{i}" for i in range(100)]
    shuffled = random.Random(0).sample(stems, 100)
    assert choose_fraction(stems, fraction=0.05, seed=7) == choose_fraction(shuffled, fraction=0.05, seed=7)
    assert choose_fraction(stems, fraction=0.05, seed=0) == {"s33", "s46", "s57", "s85", "s95"}
    assert (
        len(choose_fraction(["a", "b"], fraction=0.01, seed=0))
        == len(choose_fraction(["a", "b"], fraction=0.99, seed=0))
        == 1
    )


@pytest.mark.parametrize(
    ("found", "ignored", "expected"),
    [
        ({0, 255}, (), (0, 255)),
        ({0, 1, 2, 255}, (), (0, 1, 2)),
        ({1, 2, 3}, (), (1, 2, 3)),
        ({0, 128}, (), (0, 128)),
        ({0, 1, 11}, (11,), (0, 1)),
        ({0, 255}, (255,), (0,)),
        ({255, 7}, (), (7,)),
    ],
)
def test_the_rule_for_inferring_values(found: set[int], ignored: tuple, expected: tuple) -> None:
    assert infer_class_values(found, ignore_values=ignored) == expected


def test_only_ignored_values_are_rejected() -> None:
    with pytest.raises(DataError, match="all mask pixels have ignored values"):
        infer_class_values({255, 3}, ignore_values=(3,))


def test_values_of_smoothed_edges_do_not_become_classes() -> None:
    with pytest.raises(DataError, match=r"contain 65 different values \(0\.\.64\).*in `values`"):
        infer_class_values({*range(65), 255})


def test_black_and_white_masks_are_background_and_foreground(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 255]])
    dataset = folder("all", data_dir=str(tmp_path))
    assert dataset.class_names == ("background", "foreground")
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1]])


def test_reduce_zero_label_ignores_zero_and_shifts_the_classes(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1, 3, 255]])
    named = folder("all", data_dir=str(tmp_path), reduce_zero_label=True, class_names=("x", "y", "z"))
    found = folder("all", data_dir=str(tmp_path), reduce_zero_label=True)
    assert found.class_names == ("1", "2", "3")
    for dataset in (named, found):
        np.testing.assert_array_equal(dataset.source[0]["label"], [[IGNORE_LABEL, 0, 2, IGNORE_LABEL]])


def test_colors_define_the_classes_and_the_palette(tmp_path: pathlib.Path) -> None:
    colored = [[(255, 0, 0), (0, 0, 0), (0, 0, 255), (255, 0, 0)]]
    write_pair(tmp_path, "a", [[0, 0, 0, 0]])
    write(tmp_path / "masks" / "a.png", colored)
    options = {"colors": ((0, 0, 255), (255, 0, 0)), "ignore_colors": ((0, 0, 0),)}
    dataset = folder("all", data_dir=str(tmp_path), **options)
    assert dataset.class_names == ("0", "1") and dataset.palette == ((0, 0, 255), (255, 0, 0))
    np.testing.assert_array_equal(dataset.source[0]["label"], [[1, IGNORE_LABEL, 0, 1]])
    shown = folder("all", data_dir=str(tmp_path), palette=((1, 1, 1), (2, 2, 2)), class_names=("x", "y"), **options)
    assert shown.palette == ((1, 1, 1), (2, 2, 2)) and shown.class_names == ("x", "y")


def named_values(tmp_path: pathlib.Path, number: int, *values: int, **options: object) -> tuple:
    """Returns the mask values of `number` named classes of masks that contain these values."""
    write_pair(tmp_path, "a", [list(values)])
    names = tuple("abcdefgh"[:number])
    return folder("all", data_dir=str(tmp_path), class_names=names, **options).source.classes.values


@pytest.mark.parametrize(
    ("found", "expected"),
    [((0, 255), (0, 255)), ((0, 1, 255), (0, 1)), ((1, 2), (1, 2)), ((0, 128), (0, 128)), ((255, 7, 9), (7, 9))],
)
def test_names_do_not_change_how_masks_are_read(tmp_path: pathlib.Path, found: tuple, expected: tuple) -> None:
    assert named_values(tmp_path, 2, *found) == expected
    assert folder("all", data_dir=str(tmp_path)).source.classes.values == expected


def test_named_classes_need_not_occur(tmp_path: pathlib.Path) -> None:
    assert named_values(tmp_path, 5, 0, 1, 2, 3, 255) == (0, 1, 2, 3, 4)
    assert named_values(tmp_path, 2, 1, 255) == (0, 1)
    # All of the named classes occur, and a mask with another value is an error when it is read.
    assert named_values(tmp_path, 2, 0, 1, 2, 255) == (0, 1)
    with pytest.raises(UnknownValues, match="contains the mask value 2 "):
        folder("all", data_dir=str(tmp_path), class_names=("a", "b")).source[0]


def test_names_have_to_fit_the_values_in_the_masks(tmp_path: pathlib.Path) -> None:
    for found, text in (((0, 255), "the masks contain 2 values besides ignored ones: 0, 255"), ((0, 128), ": 0, 128;")):
        write_pair(tmp_path, "a", [list(found)])
        problem = message("all", data_dir=str(tmp_path), class_names=tuple("abc"))
        assert problem.startswith("class_names = ('a', 'b', 'c'): has 3 names, but the masks contain 2 values ")
        assert text in problem and problem.endswith("one name per value, or the mask value of each class in `values`")
    write_pair(tmp_path, "a", [[0, 100, 200]])
    assert "ignored ones: 0, 100, 200; is 'background' missing? Give one name per value" in message(
        "all", data_dir=str(tmp_path), class_names=("cat", "dog")
    )
    assert named_values(tmp_path, 3, 0, 255, values=(0, 1, 2)) == (0, 1, 2)
    assert "all mask pixels have ignored values" in message(
        "all", data_dir=str(write_ignored(tmp_path)), class_names=("a", "b")
    )


def write_ignored(root: pathlib.Path) -> pathlib.Path:
    write_pair(root / "ignored", "a", [[255, 255]])
    return root / "ignored"


def test_names_of_a_file_skip_a_mask_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1, 9, 255]])
    (tmp_path / "masks" / "b.png").write_bytes(b"not a mask")
    write(tmp_path / "images" / "b.png", np.zeros((1, 4, 3)))
    (tmp_path / "names.txt").write_text("sky\n\n road \n")
    dataset = folder("all", data_dir=str(tmp_path), class_names="names.txt", ignore_values=(9,))
    assert dataset.class_names == ("sky", "road")
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1, IGNORE_LABEL, IGNORE_LABEL]])


def test_found_values_are_part_of_the_digest_unless_they_are_recorded_elsewhere(tmp_path: pathlib.Path) -> None:
    def digest(*found: int, **options: object) -> str:
        write_pair(tmp_path, "a", [list(found)])
        return folder("all", data_dir=str(tmp_path), **options).source.digest()

    names = {"class_names": ("a", "b")}
    same = {
        digest(0, 1), digest(0, 255), digest(0, 1, **names), digest(0, 255, values=(0, 255), **names),
        digest(0, 1, 2, reduce_zero_label=True, **names),
    }  # fmt: skip
    assert len(same) == 1
    assert len(same | {digest(0, 255, **names), digest(0, 9, **names)}) == 3


def test_opening_reads_no_image(tmp_path: pathlib.Path) -> None:
    for i in range(50):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / f"{i}.png").write_bytes(b"never opened")
    dataset = folder("all", data_dir=str(tmp_path), values=(0, 1), palette=((0, 0, 0), (9, 9, 9)))
    assert len(dataset.source) == 50 and dataset.palette == ((0, 0, 0), (9, 9, 9))


def test_the_palette_of_the_mask_files_colors_the_classes(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 2]])
    write(tmp_path / "masks" / "a.png", [[0, 2]], palette=[1, 1, 1, 50, 60, 70, 200, 0, 9])
    dataset = folder("all", data_dir=str(tmp_path), values=(0, 2))
    assert dataset.palette == ((1, 1, 1), (200, 0, 9))
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1]])


def test_ten_problems_are_listed_and_the_rest_is_counted(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "ok", [[0]])
    write(tmp_path / "masks" / "alone.png", [[0]])
    for i in range(12):
        write(tmp_path / "images" / f"p{i:02}.png", np.zeros((1, 1, 3)))
    text = message("all", data_dir=str(tmp_path), values=(0,))
    assert "has 13 problems. To skip files" in text and "and 3 more" in text
    assert "p09.png" in text and "p10.png" not in text and "alone.png" not in text


@pytest.mark.parametrize(
    "line",
    ["bild 1", "bild 1.png", "images/bild 1.png", "images/x/a.png masks/x/a.png", "x/a 1 1", "x/a_mask", "gr\u00fcn"],
)
def test_a_list_names_images_by_stem_or_path(tmp_path: pathlib.Path, line: str) -> None:
    for stem in ("bild 1", "x/a", "gru\u0308n", "other"):
        write(tmp_path / "images" / f"{stem}.png", np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / f"{stem}_mask.png", np.zeros((4, 5)))
    (tmp_path / "few.txt").write_text(f"# a comment\n{line}\n", encoding="utf-8-sig")
    (tmp_path / "one.txt").write_text(f"{line}\n", encoding="utf-8-sig")
    expected = "bild 1" if "bild" in line else "x/a" if "x/a" in line else "gr\u00fcn"
    for split in ("few", "one"):
        dataset = folder(split, data_dir=str(tmp_path), split_list="{split}.txt", mask_suffix="_mask", values=(0,))
        assert ids(dataset) == [expected]


def test_an_accented_letter_can_be_one_character_or_two(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "\u00e4.png", np.zeros((4, 5, 3)))
    write(tmp_path / "masks" / "a\u0308.png", np.zeros((4, 5)))
    assert ids(folder("all", data_dir=str(tmp_path), values=(0,))) == ["\u00e4"]


@pytest.mark.parametrize(("images", "masks"), [(".", "masks"), ("images", ".")])
def test_a_folder_inside_the_other_is_excluded(tmp_path: pathlib.Path, images: str, masks: str) -> None:
    write(tmp_path / images / "a.png", np.full((4, 5, 3), 9))
    write(tmp_path / masks / "a.png", np.ones((4, 5)))
    dataset = folder("all", data_dir=str(tmp_path), images=images, masks=masks)
    assert ids(dataset) == ["a"] and dataset.class_names == ("1",) and dataset.source[0]["image"].max() == 9


def test_unpaired_files_suggest_the_suffix_that_pairs_them(tmp_path: pathlib.Path) -> None:
    for stem in ("a", "b"):
        write(tmp_path / "images" / f"{stem}.png", np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / f"{stem}_mask.png", np.zeros((4, 5)))
    with pytest.raises(DataError) as caught:
        folder("all", data_dir=str(tmp_path))
    assert caught.value.options == {"mask_suffix": "_mask"}
    first, *examples, _ = str(caught.value).splitlines()
    assert first.endswith("has 4 problems. Every file has a counterpart with mask_suffix='_mask'.")
    assert [line.split()[2] for line in examples] == ["a.png", "b.png", "a_mask.png", "more"]
    swapped = message("all", data_dir=str(tmp_path), images="masks", masks="images")
    assert "Every file has a counterpart with image_suffix='_mask'." in swapped
    write(tmp_path / "images" / "c.png", np.zeros((4, 5, 3)))
    assert "mask_suffix=" not in message("all", data_dir=str(tmp_path))


def test_only_pairs_skips_files_without_a_counterpart(tmp_path: pathlib.Path) -> None:
    for part, stems in (("images", "abc"), ("masks", "bcd")):
        for stem in stems:
            write(tmp_path / part / f"{stem}.png", np.zeros((4, 5, 3) if part == "images" else (4, 5)))
    hint = "To skip files without a counterpart, use folder(only_pairs=True)"
    assert f"has 2 problems. {hint}." in message("all", data_dir=str(tmp_path))
    given = {"data_dir": str(tmp_path), "only_pairs": True, "values": (0,)}
    assert ids(folder("all", **given)) == ["b", "c"]
    (tmp_path / "some.txt").write_text("c\na\nnowhere\n")
    assert ids(folder("some", **given, split_list="{split}.txt")) == ["c"]
    (tmp_path / "some.txt").write_text("a\nd\n")
    assert f"no entry of the list {tmp_path}/some.txt has an image and a mask" in message(
        "some", **given, split_list="{split}.txt"
    )
    for stem in "bc":
        (tmp_path / "masks" / f"{stem}.png").rename(tmp_path / "masks" / f"{stem}_m.png")
    (tmp_path / "masks" / "a_m.png").write_bytes((tmp_path / "masks" / "d.png").read_bytes())
    text = message("all", **given)
    assert f"no image in {tmp_path}/images has a mask in {tmp_path}/masks" in text
    assert "with mask_suffix='_m'." in text


def test_a_missing_folder_is_reported_with_its_siblings(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0]], "photos", "labels")
    text = message("all", data_dir=str(tmp_path))
    assert (
        f"neither the folder {tmp_path}/images nor {tmp_path}/masks exists ({tmp_path} contains labels, photos)" in text
    )


def test_data_dir_is_required(tmp_path: pathlib.Path) -> None:
    assert "data_dir = '': must be the folder" in message("train", data_dir="")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"values": (0, 300)}, "values = (0, 300): must be in 0..255, but has 300"),
        ({"values": (0, 1, 1)}, "repeats 1; give each value once in `values` or `ignore_values`"),
        ({"values": (0, 1), "ignore_values": (1,)}, "repeats 1; give each value once in `values` or `ignore_values`"),
        ({"values": ()}, "values = (): must have at least one value for each class"),
        ({"values": (0, ())}, "at least one value for each class"),
        ({"values": (0, (1, 1))}, "repeats 1;"),
        ({"values": (0, 1.5)}, "such as (0, 255), or several for one class, such as (0, (1, 255))"),
        ({"values": "01"}, "values = '01': must be a sequence with the mask value of each class"),
        ({"values": (0, 1), "class_names": ("a",)}, "class_names = ('a',): has 1 name for 2 `values`"),
        (
            {"values": (0, 1), "palette": ((0, 0, 0),)},
            "palette = ((0, 0, 0),): must be 2 colors",
        ),
        ({"values": (0, 1), "palette": ((0, 0, 0), (0, 0, 256))}, "each number in 0..255"),
        ({"class_names": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"class_names": "nowhere.txt"}, "or the names themselves, such as background,cat"),
        ({"class_names": "cat, dog,owl", "values": (0, 1)}, "has 3 names for 2 `values`"),
        ({"values": (0,), "val_fraction": 1.5}, "val_fraction = 1.5: must be a number from 0 to 1"),
        ({"values": (1,), "reduce_zero_label": True}, "`values` names others; give only one of the two"),
        ({"colors": ((0, 0, 0),), "values": (0,)}, "colors = ((0, 0, 0),): is for colored masks, but `values`"),
        ({"colors": ((0, 0, 0),), "class_names": ("a", "b")}, "class_names = ('a', 'b'): has 2 names for 1 `colors`"),
        ({"colors": ((0, 0, 256),)}, "must be colors (red, green, blue) in 0..255, but (0, 0, 256) is not one"),
        ({"colors": ((1, 2, 3),), "ignore_colors": ((1, 2, 3),)}, "repeats (1,2,3), give each color once"),
        ({"ignore_colors": ((1, 2, 3),)}, "must have one color (red, green, blue) per class"),
        ({"colors": (1, 2, 3)}, "colors = (1, 2, 3): must be a sequence of colors"),
        ({"value_range": (5, 5)}, "value_range = (5, 5): must be (low, high) with low below high"),
        ({"value_range": (1, 2, 3)}, "value_range = (1, 2, 3): must be"),
        ({"value_range": "all"}, "value_range = 'all': must be"),
        ({"channels": 4}, "channels = 4: must be 1 (gray), 3 (RGB) or 0"),
        ({"max_megapixels": 0}, "max_megapixels = 0: must be a number above 0"),
    ],
)
def test_invalid_options_are_named(tmp_path: pathlib.Path, options: dict, expected: str) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    write_pair(tmp_path, "b", [[0, 1]])
    assert expected in message("train", data_dir=str(tmp_path), **options)


def test_an_empty_split_is_named(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    assert "the split 'val'" in message("val", data_dir=str(tmp_path), values=(0, 1), val_fraction=0.0)


def test_255_is_ignored_unless_it_is_a_class() -> None:
    mask = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(ClassValues((255, 0)).to_classes(mask, name="m"), [[1, 0]])
    np.testing.assert_array_equal(ClassValues((0,)).to_classes(mask, name="m"), [[0, IGNORE_LABEL]])


def test_several_mask_values_can_be_one_class(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1, 255, 7, 3]])
    dataset = folder("all", data_dir=str(tmp_path), values=(0, [1, 255], 7), ignore_values=(3,))
    assert dataset.class_names == ("0", "1+255", "7")
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1, 1, 2, IGNORE_LABEL]])
    with pytest.raises(UnknownValues, match=r"value 9 .*have the values 0..1, 255, and ignored are 3;"):
        ClassValues((0, (1, 255)), (3,)).to_classes(np.array([[9]], np.uint8), name="m")


def test_camvid_is_read_with_void_ignored(shared_data: pathlib.Path) -> None:
    options = {"data_dir": str(shared_data / "camvid_mini"), "images": "{split}", "masks": "{split}annot"}
    dataset = folder("val", values=tuple(range(11)), ignore_values=(11,), **options)
    assert len(dataset.source) == 34 and len(folder("train", values=tuple(range(12)), **options).source) == 123
    example = dataset.source[0]
    assert example["image"].shape == (360, 480, 3)
    assert set(np.unique(example["label"])) <= {*range(11), IGNORE_LABEL}


def test_membranes_are_read_as_background_and_foreground(shared_data: pathlib.Path) -> None:
    root = shared_data / "membrane_em" / "data" / "membrane" / "train"
    dataset = folder("val", data_dir=str(root), images="image", masks="label")
    assert dataset.class_names == ("background", "foreground") and len(dataset.source) == 6
    assert set(np.unique(dataset.source[0]["label"])) == {0, 1}


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    message = (
        rf"the folder of the dataset, {tmp_path}/nope, does not exist \({tmp_path} contains photos\); check the path"
    )
    with pytest.raises(DataError, match=message):
        folder("train", data_dir=str(tmp_path / "nope"))
    with pytest.raises(DataError, match=r"photos/\*.png does not exist: patterns of names are not expanded; give the"):
        folder("train", data_dir=str(tmp_path / "photos" / "*.png"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file, is a file; check the path"):
        folder("train", data_dir=str(tmp_path / "file"))


def test_images_without_masks_are_opened_to_predict_them(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    write(tmp_path / "images" / "b.png", np.zeros((3, 2, 3)))
    write(tmp_path / "images" / "c.png", np.zeros((3, 2, 3)))
    (tmp_path / "test.txt").write_text("c\nb\n")
    (tmp_path / "train.txt").write_text("a\n")
    given = {"data_dir": str(tmp_path), "split_list": "{split}.txt"}
    assert ids(folder("train", **given)) == ["a"]
    write(tmp_path / "photos" / "images" / "d.png", np.zeros((3, 2, 3)))
    for split, options in (("test", given), ("all", {"data_dir": str(tmp_path / "photos")})):
        with pytest.raises(MissingMasks, match=r"None of these \d images has a mask. .*can be predicted, but neither"):
            folder(split, **options)
    dataset = folder("test", **given, masks="")
    assert ids(dataset) == ["b", "c"] and dataset.num_classes == 2
    np.testing.assert_array_equal(dataset.source[0]["label"], np.full((3, 2), IGNORE_LABEL))
    assert folder("all", data_dir=str(tmp_path), masks="", class_names=("x",)).class_names == ("x",)
    for options in ({"ignore_values": (1,)}, {"reduce_zero_label": True}):
        assert folder("all", data_dir=str(tmp_path), masks="", **options).num_classes == 2
    (tmp_path / "bad.txt").write_text("d\n")
    assert "d, listed in" in message("bad", **given, masks="")
    assert "no image and no mask" not in message("bad", **given, masks="")


def test_masks_of_other_names_are_not_missing(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "a.png", np.zeros((3, 2, 3)))
    write(tmp_path / "masks" / "a_mask.png", np.zeros((3, 2)))
    with pytest.raises(DataError, match="mask_suffix='_mask'") as caught:
        folder("all", data_dir=str(tmp_path))
    assert not isinstance(caught.value, MissingMasks)


def test_the_folder_of_the_images_is_not_that_of_the_dataset(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    text = message("all", data_dir=str(tmp_path / "images"))
    assert f"The folder above it, {tmp_path}, contains images and masks: give that one." in text


SPLIT_FOLDERS = {
    "train train_labels val val_labels test": ("{split}", "{split}_labels", ["train", "val"]),
    "train trainannot test testannot": ("{split}", "{split}annot", ["test", "train"]),
    "train_images train_gt valid_images valid_gt": ("{split}_images", "{split}_gt", ["train", "valid"]),
    "photo/train truth/train photo/val truth/val": ("photo/{split}", "truth/{split}", ["train", "val"]),
    "train/images train/masks val/images val/masks": ("{split}/images", "{split}/masks", ["train", "val"]),
    "train train_labels test": ("train", "train_labels", []),
    "images labels": ("images", "labels", []),
}
"""The folders that a dataset has, and the options that read them, with the splits that they define."""


@pytest.mark.parametrize("suffix", ["", "_L"])
@pytest.mark.parametrize("folders", SPLIT_FOLDERS)
def test_folders_of_other_names_are_suggested(tmp_path: pathlib.Path, folders: str, suffix: str) -> None:
    images, masks, splits = SPLIT_FOLDERS[folders]
    for path in folders.split():
        ending = suffix if any(word in path for word in ("label", "annot", "gt", "truth", "mask")) else ""
        write(tmp_path / path / f"a{ending}.png", np.zeros((2, 2)))
        write(tmp_path / path / f"b{ending}.png", np.ones((2, 2)))
    (tmp_path / "class_dict.csv").write_text("")
    with pytest.raises(DataError, match=f"[.] The folders may be {images} and {masks}: use folder[(]images=") as caught:
        folder("train", data_dir=str(tmp_path))
    options = {"images": images, "masks": masks} | ({"mask_suffix": suffix} if suffix else {})
    assert (caught.value.options, caught.value.splits) == (options, tuple(splits))
    for split in splits or ["train"]:
        assert len(folder(split, data_dir=str(tmp_path), **options).source) == (2 if splits else 1)


def test_folders_in_use_are_not_suggested(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]], "train", "train_labels")
    write_pair(tmp_path, "b", [[0, 1]], "val", "val_labels")
    write(tmp_path / "test" / "c.png", np.zeros((3, 2, 3)))
    options = {"data_dir": str(tmp_path), "images": "{split}", "masks": "{split}_labels"}
    with pytest.raises(MissingMasks, match="None of these 1 images"):
        folder("test", **options)
    with pytest.raises(DataError, match="existing splits: train, val[)] has 1 problem:") as caught:
        folder("valid", **options)
    assert caught.value.options == {} and caught.value.splits == ("train", "val")


def test_folders_of_other_subfolders_are_not_suggested(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]], "images", "annotations/trimaps")
    assert "may be" not in message("train", data_dir=str(tmp_path))
