"""The tables of docs/models.md are those of `python -m flaxseg.models --markdown`."""

import re
from pathlib import Path

import pytest

from flaxseg.models import MODELS
from flaxseg.models.__main__ import main
from flaxseg.models.encoders import ENCODERS

PAGE = Path("docs/models.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## Tables")[2]
ROWS = {row.split("`")[1]: row for row in TABLES.splitlines() if row.startswith("| `")}
REMEDY = "docs/models.md is out of date; replace its tables by the output of `python -m flaxseg.models --markdown`"


def printed(capsys, *names):
    """Returns the rows for these names."""
    assert main(["--markdown", *names]) == 0
    return {row.split("`")[1]: row for row in capsys.readouterr().out.splitlines() if row.startswith("| `")}


def test_every_name_has_a_row_in_order():
    assert list(ROWS) == [*MODELS, *ENCODERS], REMEDY


@pytest.mark.parametrize("name", ENCODERS)
def test_strides_weights_and_license_of_the_page(name):
    entry = ENCODERS[name]
    _, _, _, _, strides, weights, license, _ = (cell.strip() for cell in ROWS[name].split("|"))
    assert strides == ", ".join(map(str, entry.output_strides)), REMEDY
    if entry.pretrained is None:
        assert (weights, license) == ("none", "none"), REMEDY
        return
    assert entry.pretrained.repository == re.fullmatch(r"\[(.*)\]\(https://huggingface.co/\1\)", weights)[1], REMEDY
    assert license == (entry.pretrained.license or "see repository"), REMEDY


def test_some_rows_are_printed_like_this(capsys):
    names = "plain_unet", "resnet18", "mobilenetv3_large_100"
    assert printed(capsys, *names) == {name: ROWS[name] for name in names}, REMEDY


@pytest.mark.long
def test_all_rows_are_printed_like_this(capsys):
    assert printed(capsys) == ROWS, REMEDY
