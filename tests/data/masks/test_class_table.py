"""The table of class names and colors beside the masks of a dataset."""

import pytest

from flaxseg.data.masks.class_table import read_class_table

CAT = {"Background": (0, 0, 0), "Cat": (64, 128, 64)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,r,g,b\nBackground,0,0,0\nCat,64,128,64\n", CAT),
        ("\ufeffR, G, B, Name\r\n0, 0, 0, Background\r\n\r\n64, 128, 64, Cat\r\n", CAT),
        ('name,r,g,b,id\n"cat, lying",1,2,3,7\n', {"cat, lying": (1, 2, 3)}),
        ("name,r,g,b\n", {}),
        ("name,r,g,b\ncat,1,2\n", {}),
        ("name,r,g,b\ncat,1,2,256\n", {}),
        ("name,r,g,b\ncat,1,2,x\n", {}),
        ("name,r,g,b\ncat,1,2,3\ndog,1,2,3\n", {}),
        ("name,r,g,b\ncat,1,2,3\ncat,4,5,6\n", {}),
        ("name,red,green,blue\ncat,1,2,3\n", {}),
        ("", {}),
    ],
)
def test_names_and_colors_are_read_from_the_columns(text, expected, tmp_path):
    (tmp_path / "class_dict.csv").write_text(text, encoding="utf-8", newline="")
    assert read_class_table(str(tmp_path)) == expected


def test_other_files_are_no_table(tmp_path):
    assert read_class_table(str(tmp_path)) == {}
    (tmp_path / "class_dict.csv").write_bytes(b"name,r,g,b\n\xff,1,2,3\n")
    assert read_class_table(str(tmp_path)) == {}
