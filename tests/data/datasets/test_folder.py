"""Folders of pictures and masks: layouts, splits, values to classes, and each thing that can be wrong with them."""

import pathlib
import random

import numpy as np
import pytest
from PIL import Image

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues, inferred_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.sources.pairs import seeded_part
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError, UnknownValues


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
    with pytest.raises(DataError) as caught:
        folder(split, **options)
    return str(caught.value)


def test_pairs_by_stem_with_values_as_classes(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "b", [[1, 2], [3, 255]])
    write_pair(tmp_path, "a", [[3, 3]])
    dataset = folder("all", data_dir=str(tmp_path), values=(3, 1, 2), class_names=("x", "y", "z"))
    assert ids(dataset) == ["a", "b"]
    assert dataset.class_names == ("x", "y", "z")
    assert dataset.palette == default_palette(3)
    example = dataset.source[1]
    np.testing.assert_array_equal(example["label"], [[1, 2], [0, IGNORE_LABEL]])
    np.testing.assert_array_equal(example["image"][..., 0], [[101, 102], [103, 99]])
    assert example["image"].dtype == example["label"].dtype == np.uint8


def test_nested_folders_and_extensions_of_either_case(tmp_path: pathlib.Path) -> None:
    for picture, mask in (
        ("x/1.JPG", "x/1.png"),
        ("y/z/1.jpeg", "y/z/1.GIF"),
        ("2.bmp", "2.TIF"),
        ("3.v1.webp", "3.v1.PNG"),
    ):
        write(tmp_path / "images" / picture, np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / mask, np.zeros((4, 5)))
    write(tmp_path / "masks" / "._2.png", np.zeros((4, 5)))
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")
    assert ids(folder("all", data_dir=str(tmp_path), values=(0,))) == ["2", "3.v1", "x/1", "y/z/1"]


def test_suffixes_of_pictures_and_masks(tmp_path: pathlib.Path) -> None:
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
    # The classes are those of the whole dataset, whichever split is opened.
    assert train.class_names == val.class_names == ("0", "1", "2")
    text = message("test", **options)
    assert f"the folder {tmp_path}/test does not exist" in text and "there is train, val)" in text


def test_splits_by_list(tmp_path: pathlib.Path) -> None:
    for stem in ("a", "b", "c"):
        write_pair(tmp_path, stem, [[1, 2]])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.txt").write_text("# name class\nc 1 1\n\n  a 2 2\n")
    options = {"data_dir": str(tmp_path), "split_list": "lists/{split}.txt", "values": (1, 2)}
    assert ids(folder("test", **options)) == ["a", "c"]  # sorted, whatever order the list has
    (tmp_path / "lists" / "odd.txt").write_text("a\nmissing\n")
    text = message("odd", **options)
    assert f"missing, listed in {tmp_path}/lists/odd.txt, has no picture and no mask" in text
    assert "cannot be read" in message("train", **options) and "there is odd, test" in message("train", **options)


def test_one_mask_folder_may_serve_several_picture_folders(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0]], "images/train")
    write_pair(tmp_path, "b", [[0]], "images/val")
    assert ids(folder("val", data_dir=str(tmp_path), images="images/{split}", values=(0,))) == ["b"]


def test_the_seeded_share_splits_the_whole_and_stays_the_same(tmp_path: pathlib.Path) -> None:
    for i in range(20):
        write_pair(tmp_path, f"{i:02}", [[0, 1]])

    def stems(split: str, seed: int = 0) -> set[str]:
        return set(ids(folder(split, data_dir=str(tmp_path), values=(0, 1), val_fraction=0.3, split_seed=seed)))

    assert len(stems("val")) == 6
    assert stems("train") | stems("val") == stems("all") and not stems("train") & stems("val")
    assert stems("val") != stems("val", seed=1)
    text = message("test", data_dir=str(tmp_path))
    assert "no split 'test'" in text and "train, val, all" in text


def test_the_seeded_share_depends_neither_on_the_order_nor_on_the_machine() -> None:
    stems = [f"s{i}" for i in range(100)]
    shuffled = random.Random(0).sample(stems, 100)
    assert seeded_part(stems, fraction=0.05, seed=7) == seeded_part(shuffled, fraction=0.05, seed=7)
    assert seeded_part(stems, fraction=0.05, seed=0) == {"s33", "s46", "s57", "s85", "s95"}
    assert (
        len(seeded_part(["a", "b"], fraction=0.01, seed=0)) == len(seeded_part(["a", "b"], fraction=0.99, seed=0)) == 1
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
def test_the_rule_for_values_that_are_not_given(found: set[int], ignored: tuple, expected: tuple) -> None:
    assert inferred_values(found, ignore_values=ignored) == expected


def test_nothing_but_ignored_values_is_refused() -> None:
    with pytest.raises(DataError, match="all mask pixels have ignored values"):
        inferred_values({255, 3}, ignore_values=(3,))


def test_values_of_smooth_edges_are_not_taken_for_classes() -> None:
    with pytest.raises(DataError, match=r"hold 65 different values \(0\.\.64\).*data\.options\.values"):
        inferred_values({*range(65), 255})


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


def test_colors_are_classes_and_the_palette(tmp_path: pathlib.Path) -> None:
    colored = [[(255, 0, 0), (0, 0, 0), (0, 0, 255), (255, 0, 0)]]
    write_pair(tmp_path, "a", [[0, 0, 0, 0]])
    write(tmp_path / "masks" / "a.png", colored)
    options = {"colors": ((0, 0, 255), (255, 0, 0)), "ignore_colors": ((0, 0, 0),)}
    dataset = folder("all", data_dir=str(tmp_path), **options)
    assert dataset.class_names == ("0", "1") and dataset.palette == ((0, 0, 255), (255, 0, 0))
    np.testing.assert_array_equal(dataset.source[0]["label"], [[1, IGNORE_LABEL, 0, 1]])
    shown = folder("all", data_dir=str(tmp_path), palette=((1, 1, 1), (2, 2, 2)), class_names=("x", "y"), **options)
    assert shown.palette == ((1, 1, 1), (2, 2, 2)) and shown.class_names == ("x", "y")


def test_names_without_values_number_the_classes_and_no_mask_is_scanned(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1, 9, 255]])
    (tmp_path / "masks" / "b.png").write_bytes(b"never opened")
    write(tmp_path / "images" / "b.png", np.zeros((1, 4, 3)))
    (tmp_path / "names.txt").write_text("sky\n\n road \n")
    dataset = folder("all", data_dir=str(tmp_path), class_names="names.txt", ignore_values=(9,))
    assert dataset.class_names == ("sky", "road")
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1, IGNORE_LABEL, IGNORE_LABEL]])


def test_opening_reads_no_picture(tmp_path: pathlib.Path) -> None:
    for i in range(50):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / f"{i}.png").write_bytes(b"never opened")
    dataset = folder("all", data_dir=str(tmp_path), values=(0, 1), palette=((0, 0, 0), (9, 9, 9)))
    assert len(dataset.source) == 50 and dataset.palette == ((0, 0, 0), (9, 9, 9))


def test_the_masks_own_palette_colors_the_classes(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 2]])
    write(tmp_path / "masks" / "a.png", [[0, 2]], palette=[1, 1, 1, 50, 60, 70, 200, 0, 9])
    dataset = folder("all", data_dir=str(tmp_path), values=(0, 2))
    assert dataset.palette == ((1, 1, 1), (200, 0, 9))
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1]])


def test_of_many_problems_ten_are_shown_and_the_rest_counted(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "ok", [[0]])
    write(tmp_path / "masks" / "alone.png", [[0]])
    for i in range(12):
        write(tmp_path / "images" / f"p{i:02}.png", np.zeros((1, 1, 3)))
    text = message("all", data_dir=str(tmp_path), values=(0,))
    assert "has 13 problem(s)" in text and "and 3 more" in text
    assert "p09.png" in text and "p10.png" not in text and "alone.png" not in text


@pytest.mark.parametrize(
    "line",
    ["bild 1", "bild 1.png", "images/bild 1.png", "images/x/a.png masks/x/a.png", "x/a 1 1", "x/a_mask", "gr\u00fcn"],
)
def test_a_list_names_pictures_by_stem_or_path(tmp_path: pathlib.Path, line: str) -> None:
    for stem in ("bild 1", "x/a", "gru\u0308n", "other"):
        write(tmp_path / "images" / f"{stem}.png", np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / f"{stem}_mask.png", np.zeros((4, 5)))
    (tmp_path / "few.txt").write_text(f"# a comment\n{line}\n", encoding="utf-8-sig")
    (tmp_path / "one.txt").write_text(f"{line}\n", encoding="utf-8-sig")
    expected = "bild 1" if "bild" in line else "x/a" if "x/a" in line else "gr\u00fcn"
    for split in ("few", "one"):
        dataset = folder(split, data_dir=str(tmp_path), split_list="{split}.txt", mask_suffix="_mask", values=(0,))
        assert ids(dataset) == [expected]


def test_one_letter_may_be_stored_as_one_character_or_two(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "images" / "\u00e4.png", np.zeros((4, 5, 3)))
    write(tmp_path / "masks" / "a\u0308.png", np.zeros((4, 5)))
    assert ids(folder("all", data_dir=str(tmp_path), values=(0,))) == ["\u00e4"]


@pytest.mark.parametrize(("images", "masks"), [(".", "masks"), ("images", ".")])
def test_a_folder_within_the_other_is_left_aside(tmp_path: pathlib.Path, images: str, masks: str) -> None:
    write(tmp_path / images / "a.png", np.full((4, 5, 3), 9))
    write(tmp_path / masks / "a.png", np.ones((4, 5)))
    dataset = folder("all", data_dir=str(tmp_path), images=images, masks=masks)
    assert ids(dataset) == ["a"] and dataset.class_names == ("1",) and dataset.source[0]["image"].max() == 9


def test_unpaired_names_suggest_the_suffix_that_pairs_them(tmp_path: pathlib.Path) -> None:
    for stem in ("a", "b"):
        write(tmp_path / "images" / f"{stem}.png", np.zeros((4, 5, 3)))
        write(tmp_path / "masks" / f"{stem}_mask.png", np.zeros((4, 5)))
    assert message("all", data_dir=str(tmp_path)).endswith("pair with --config.data.options.mask_suffix=_mask")
    swapped = message("all", data_dir=str(tmp_path), images="masks", masks="images")
    assert swapped.endswith("pair with --config.data.options.image_suffix=_mask")
    write(tmp_path / "images" / "c.png", np.zeros((4, 5, 3)))
    assert "mask_suffix=" not in message("all", data_dir=str(tmp_path))


def test_what_has_no_counterpart_is_left_aside_when_asked_for(tmp_path: pathlib.Path) -> None:
    for part, stems in (("images", "abc"), ("masks", "bcd")):
        for stem in stems:
            write(tmp_path / part / f"{stem}.png", np.zeros((4, 5, 3) if part == "images" else (4, 5)))
    hint = "the dataset folder has --config.data.options.only_pairs=True"
    assert message("all", data_dir=str(tmp_path)).endswith(f"To leave aside what has no counterpart, {hint}")
    given = {"data_dir": str(tmp_path), "only_pairs": True, "values": (0,)}
    assert ids(folder("all", **given)) == ["b", "c"]
    (tmp_path / "some.txt").write_text("c\na\nnowhere\n")
    assert ids(folder("some", **given, split_list="{split}.txt")) == ["c"]
    (tmp_path / "some.txt").write_text("a\nd\n")
    assert f"nothing in the list {tmp_path}/some.txt has a picture and a mask" in message(
        "some", **given, split_list="{split}.txt"
    )
    for stem in "bc":
        (tmp_path / "masks" / f"{stem}.png").rename(tmp_path / "masks" / f"{stem}_m.png")
    (tmp_path / "masks" / "a_m.png").write_bytes((tmp_path / "masks" / "d.png").read_bytes())
    text = message("all", **given)
    assert f"no picture in {tmp_path}/images has a mask in {tmp_path}/masks" in text
    assert text.endswith("mask_suffix=_m")


def test_a_missing_folder_is_told_with_what_is_there(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0]], "pictures", "labels")
    text = message("all", data_dir=str(tmp_path))
    assert f"the folder {tmp_path}/images does not exist ({tmp_path} holds labels, pictures)" in text


def test_no_folder_is_told(tmp_path: pathlib.Path) -> None:
    assert "data.dir" in message("train", data_dir="")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"values": (0, 300)}, "300 outside of it"),
        ({"values": (0, 1, 1)}, "1 twice"),
        ({"values": (0, 1), "ignore_values": (1,)}, "1 twice"),
        ({"values": ()}, "no class"),
        ({"values": (0, ())}, "no class"),
        ({"values": (0, (1, 1))}, "1 twice"),
        ({"values": (0, 1.5)}, "such as (0, 255), or several for one class, such as (0, (1, 255))"),
        ({"values": "01"}, "data.options.values is '01': it has to be a sequence with the mask value of each class"),
        ({"values": (0, 1), "class_names": ("a",)}, "1 data.options.class_names for 2 data.options.values"),
        ({"values": (0, 1), "palette": ((0, 0, 0),)}, "data.options.palette has the shape [1, 3]: for 2 classes"),
        ({"values": (0, 1), "palette": ((0, 0, 0), (0, 0, 256))}, "each number in 0..255"),
        ({"class_names": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"class_names": "cat,dog"}, "or the names themselves, such as ('cat', 'dog')"),
        ({"values": (0,), "val_fraction": 1.5}, "data.options.val_fraction is 1.5: it has to be in 0..1"),
        ({"values": (1,), "reduce_zero_label": True}, "data.options.values names others: give only one of both"),
        ({"colors": ((0, 0, 0),), "values": (0,)}, "data.options.colors is for colored masks, and values"),
        ({"colors": ((0, 0, 0),), "class_names": ("a", "b")}, "2 data.options.class_names for 1 data.options.colors"),
        ({"colors": ((0, 0, 256),)}, "colors (red, green, blue) of 0..255, each once, and one for each class"),
        ({"colors": ((1, 2, 3),), "ignore_colors": ((1, 2, 3),)}, "(1,2,3), is there twice"),
        ({"ignore_colors": ((1, 2, 3),)}, "one for each class: there is none"),
        ({"colors": (1, 2, 3)}, "each has to be a sequence of colors"),
        ({"value_range": (5, 5)}, "data.options.value_range is (5, 5): it has to be (low, high) with low below high"),
        ({"value_range": (1, 2, 3)}, "data.options.value_range is (1, 2, 3)"),
        ({"value_range": "all"}, "data.options.value_range is 'all'"),
        ({"channels": 4}, "data.options.channels is 4: it has to be 1 (gray), 3 (RGB) or 0"),
        ({"max_megapixels": 0}, "data.options.max_megapixels is 0: it has to be above 0"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: pathlib.Path, options: dict, expected: str) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    write_pair(tmp_path, "b", [[0, 1]])
    assert expected in message("train", data_dir=str(tmp_path), **options)


def test_an_empty_split_is_named(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1]])
    assert "the split 'val'" in message("val", data_dir=str(tmp_path), values=(0, 1), val_fraction=0.0)


def test_ignoring_255_can_be_undone_by_naming_it() -> None:
    mask = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(ClassValues((255, 0)).to_classes(mask, name="m"), [[1, 0]])
    np.testing.assert_array_equal(ClassValues((0,)).to_classes(mask, name="m"), [[0, IGNORE_LABEL]])


def test_several_mask_values_may_be_one_class(tmp_path: pathlib.Path) -> None:
    write_pair(tmp_path, "a", [[0, 1, 255, 7, 3]])
    dataset = folder("all", data_dir=str(tmp_path), values=(0, [1, 255], 7), ignore_values=(3,))
    assert dataset.class_names == ("0", "1+255", "7")
    np.testing.assert_array_equal(dataset.source[0]["label"], [[0, 1, 1, 2, IGNORE_LABEL]])
    with pytest.raises(UnknownValues, match=r"value\(s\) 9 .*Classes have the values 0..1, 255, ignored are 3;"):
        ClassValues((0, (1, 255)), (3,)).to_classes(np.array([[9]], np.uint8), name="m")


def test_camvid_reads_with_its_void_ignored(shared_data: pathlib.Path) -> None:
    options = {"data_dir": str(shared_data / "camvid_mini"), "images": "{split}", "masks": "{split}annot"}
    dataset = folder("val", values=tuple(range(11)), ignore_values=(11,), **options)
    assert len(dataset.source) == 34 and len(folder("train", values=tuple(range(12)), **options).source) == 123
    example = dataset.source[0]
    assert example["image"].shape == (360, 480, 3)
    assert set(np.unique(example["label"])) <= {*range(11), IGNORE_LABEL}


def test_membranes_read_as_background_and_foreground(shared_data: pathlib.Path) -> None:
    root = shared_data / "membrane_em" / "data" / "membrane" / "train"
    dataset = folder("val", data_dir=str(root), images="image", masks="label")
    assert dataset.class_names == ("background", "foreground") and len(dataset.source) == 6
    assert set(np.unique(dataset.source[0]["label"])) == {0, 1}
