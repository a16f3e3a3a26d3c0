"""The names of the classes, as options of a dataset give them."""

import re

import pytest

from flaxseg.data.masks.class_names import read_class_names
from flaxseg.errors import ArgumentError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ()),
        ("", ()),
        (["sky", "cat"], ("sky", "cat")),
        ("sky, cat", ("sky", "cat")),
        ("names.txt", ("sky", "cat")),
        ("road (paved),driver's seat,drivers'", ("road (paved)", "driver's seat", "drivers'")),
    ],
)
def test_names_are_given_directly_or_in_a_file(given, expected, tmp_path):
    (tmp_path / "names.txt").write_text("sky\n\ncat\n")
    assert read_class_names(str(tmp_path), given) == expected


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("(sky,cat)", "'(sky'"),
        (("(sky", "cat)"), "'(sky'"),
        ("[sky, cat]", "'[sky'"),
        ("sky,cat)", "'cat)'"),
        ("'sky','cat'", "\"'sky'\""),
        ('("sky","cat")', "'(\"sky\"'"),
        ("names.txt", "'(sky'"),
    ],
)
def test_a_tuple_without_its_quotes_is_not_taken_for_names(given, part, tmp_path):
    (tmp_path / "names.txt").write_text("(sky\ncat)\n")
    with pytest.raises(ArgumentError, match=f"^class_names = .*{re.escape(part)} is a part of a tuple") as caught:
        read_class_names(str(tmp_path), given)
    assert caught.value.problem.endswith("; write class_names=sky,cat")
