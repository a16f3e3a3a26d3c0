"""The texts that messages are made of."""

import pytest

from flaxseg.errors import number_of


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 problems"), (1, "1 problem"), (2, "2 problems"), (1500, "1,500 problems")]
)
def test_a_noun_is_plural_unless_there_is_one(count, expected):
    assert number_of(count, "problem") == expected
