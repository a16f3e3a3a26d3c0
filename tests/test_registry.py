"""From names to functions, and options against signatures."""

from collections.abc import Sequence

import pytest

from flaxseg.errors import ConfigError, did_you_mean
from flaxseg.registry import look_up, option_errors, option_names


def function(split, *, size: tuple[int, int], names: Sequence[str] | str = (), rate: float = 0.0, on: bool = True):
    """Returns its arguments."""
    return split, size, names, rate, on


def open_to_all(**options):
    """Returns its options."""
    return options


def told(**options):
    return option_errors(function, options, key="config.x")


def test_names_of_the_table_and_of_ones_own():
    assert look_up("f", {"f": function}, key="config.x") is function
    assert look_up("flaxseg.registry:did_you_mean", {}, key="config.x") is did_you_mean
    with pytest.raises(ConfigError, match=r"config.x = 'g': unknown. Known are fg, h; did you mean 'fg'"):
        look_up("g", {"fg": function, "h": function}, key="config.x")


def test_options_are_the_keyword_only_arguments():
    assert option_names(function) == ["size", "names", "rate", "on"]


def test_what_fits_is_not_told():
    assert told(size=(1, 2), names="file.txt", rate=1, on=False) == []
    assert told(size=[1, 2], names=["a", "b"]) == []
    assert option_errors(open_to_all, {"anything": 1}, key="config.x") == []


def test_what_does_not_fit_is_told_with_its_key():
    assert told() == ["config.x.size is missing: it has no default"]
    assert told(size=(1, 2), ratio=1) == [
        "config.x.ratio = 1: no such option; did you mean 'rate'?; options are size, names, rate, on"
    ]
    assert told(size=(1, 2.5)) == ["config.x.size = (1, 2.5): must be (a whole number, a whole number)"]
    assert told(size=(1, 2), names=5) == [
        "config.x.names = 5: must be a text or a sequence, as in (A, B) or (A,), each a text"
    ]
    assert told(size=(1, 2), rate=True, on=1) == [
        "config.x.rate = True: must be a number",
        "config.x.on = 1: must be True or False",
    ]
    assert option_errors(function, 5, key="config.x")[0].startswith("config.x = 5: must be a group of options")


def test_nearest_names_whatever_their_case():
    assert did_you_mean("mIoU", ["miou", "pixel_accuracy"]) == "; did you mean 'miou'?"
    assert did_you_mean("something", ["else"]) == ""
