"""JSON of others: deep nesting is an error of the text."""

import pytest

from flaxseg.models.pretrained.json_text import parse_json


def test_values_are_returned():
    assert parse_json('{"a": [1, {"b": null}], "c": "[[["}') == {"a": [1, {"b": None}], "c": "[[["}
    assert parse_json("3") == 3
    deep = parse_json("[" * 50 + "]" * 50)
    for _ in range(49):
        (deep,) = deep
    assert deep == []


@pytest.mark.parametrize("depth", [51, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_an_error(depth, opening, closing):
    with pytest.raises(ValueError, match=r"^its values are nested more than 50 deep$"):
        parse_json(opening * depth + ("1" if closing == "}" else "") + closing * depth)


@pytest.mark.parametrize("text", ["", "{", "nan", "[1,]", "9" * 5000])
def test_what_is_not_json_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
