"""The tables of docs/models.md are those of `flaxseg models --markdown`."""

import re
from pathlib import Path

import pytest

from flaxseg.models import MODELS, build_model
from flaxseg.models.__main__ import main
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.tables import costs

PAGE = Path("docs/models.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## Tables")[2]
ROWS = {row.split("`")[1]: row for row in TABLES.splitlines() if row.startswith("| `")}
REMEDY = "docs/models.md is out of date; replace its tables by the output of `flaxseg models --markdown`"


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


CHOICES = re.findall(r"^\| .* \| (`.*?`.*?) \| ([\d.]+) M \| ([\d.]+) \|.* \| (.*) \|$", PAGE, re.MULTILINE)
"""The network, its parameters, its FLOPs, and the license of its weights, in the table of choices."""


def test_the_choices_have_the_licenses_of_their_weights():
    assert len(CHOICES) == 8
    for networks, _, _, license in CHOICES:
        _, *encoder = re.findall(r"`(\w+)`", networks)
        found = ENCODERS[encoder[0]].pretrained.license or "see repository" if encoder else "none"
        assert license == ("non-commercial" if "nvidia" in found else found), networks


@pytest.mark.parametrize(
    "choice", [pytest.param(each, marks=() if "lraspp" in each[0] else pytest.mark.long) for each in CHOICES]
)
def test_the_choices_have_these_costs(choice):
    networks, parameters, operations, _ = choice
    name, *encoder = re.findall(r"`(\w+)`", networks)
    model = build_model(name, num_classes=2, **({"encoder": encoder[0]} if encoder else {}))
    found = costs(model, (512, 512))
    assert (parameters, operations) == (f"{found[0] / 1e6:.2f}", f"{2 * found[1] / 1e9:.2f}")


@pytest.mark.long
def test_all_rows_are_printed_like_this(capsys):
    assert printed(capsys) == ROWS, REMEDY
