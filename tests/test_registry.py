"""Entries of tables by name, and their options."""

import inspect
from collections.abc import Sequence

import flax.linen as nn
import pytest

from flaxseg.errors import ArgumentError, did_you_mean
from flaxseg.registry import Option, field_options, look_up, option_errors, option_names, options_of, type_name


def function(split, *, size: tuple[int, int], names: Sequence[str] | str = (), rate: float = 0.0, on: bool = True):
    """Returns its arguments.

    Args:
      split: not an option.
      size: height and width, in pixels; a description
        on two lines.
      rate: dropout rate: at least 0.

    Returns:
      on: not a description of an argument.
    """
    return split, size, names, rate, on


def open_to_all(**options):
    """Returns its options."""
    return options


def errors_of(**options):
    return option_errors(function, options, key="config.x")


def test_names_of_the_table_and_of_user_functions():
    assert look_up("f", {"f": function}, argument="loss") is function
    assert look_up("flaxseg.registry:did_you_mean", {}, argument="loss") is did_you_mean
    with pytest.raises(ArgumentError, match=r"loss = 'g': unknown; did you mean 'fg'\? Known are fg, h, and"):
        look_up("g", {"fg": function, "h": function}, argument="loss")


def test_a_functions_options_are_its_keyword_only_arguments():
    assert option_names(function) == ["size", "names", "rate", "on"]
    assert options_of(function)[0] == Option(
        "size", tuple[int, int], inspect.Parameter.empty, "height and width, in pixels; a description on two lines."
    )
    assert options_of(function)[2] == Option("rate", float, 0.0, "dropout rate: at least 0.")
    assert [(option.is_required, bool(option.doc)) for option in options_of(function)] == [
        (True, True), (False, False), (False, True), (False, False),
    ]  # fmt: skip


class Block(nn.Module):
    """A module.

    Attributes:
      width: number of channels.
    """

    width: int
    rates: tuple[int, ...] = (1, 2)


class Listed:
    """An entry of a table that lists its options itself."""

    def __call__(self, **options):
        """Returns its options."""
        return options

    def options(self):
        """Returns the fields of Block."""
        return field_options(Block)


def test_an_entry_can_list_its_options_itself():
    assert options_of(Listed()) == [
        Option("width", int, inspect.Parameter.empty, "number of channels."),
        Option("rates", tuple[int, ...], (1, 2), ""),
    ]
    assert option_errors(Listed(), {"width": 1.5}, key="x") == ["x.width = 1.5: must be of type int"]
    assert option_errors(Listed(), {"rate": 1}, key="x", given=["width"]) == [
        "x.rate = 1: no such option; did you mean 'rates'?; options are rates"
    ]


def test_options_that_fit_have_no_errors():
    assert errors_of(size=(1, 2), names="file.txt", rate=1, on=False) == []
    assert errors_of(size=[1, 2], names=["a", "b"]) == []
    assert option_errors(open_to_all, {"anything": 1}, key="config.x") == []


def test_options_that_do_not_fit_are_named_with_their_key():
    assert errors_of() == ["config.x.size is missing: it has no default"]
    assert errors_of(size=(1, 2), ratio=1) == [
        "config.x.ratio = 1: no such option; did you mean 'rate'?; options are size, names, rate, on"
    ]
    assert errors_of(size=(1, 2.5)) == ["config.x.size = (1, 2.5): must be of type (int, int)"]
    assert errors_of(size=(1, 2), names=5) == [
        "config.x.names = 5: must be of type string or tuple of string, as in (A, B) or (A,)"
    ]
    assert errors_of(size=(1, 2), rate=True, on=1) == [
        "config.x.rate = True: must be of type float",
        "config.x.on = 1: must be of type bool",
    ]
    assert option_errors(function, 5, key="config.x")[0].startswith("config.x = 5: must be a group of options")


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (str | None, "None or string"),
        (Sequence[float] | None, "None or tuple of float"),
        (tuple[tuple[float, bool], ...], "tuple of (float, bool)"),
        (Sequence[int | Sequence[int]] | None, "None or tuple of (int or tuple of int)"),
        (Sequence[float | tuple[float, float]], "tuple of (float or (float, float))"),
        (dict, "<class 'dict'>"),
    ],
)
def test_type_names(annotation, name):
    assert type_name(annotation) == name


def test_did_you_mean_ignores_case():
    assert did_you_mean("mIoU", ["miou", "pixel_accuracy"]) == "; did you mean 'miou'?"
    assert did_you_mean("something", ["else"]) == ""
