"""The output directory: earlier reports are replaced, and files of the user are kept."""

import json

import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.inspection.contact_sheet import ContactSheet
from flaxseg.inspection.output import prepare_output, write_report
from flaxseg.inspection.results import Inspection

SHEET = ContactSheet("train.png", "images", np.zeros((2, 3, 3), np.uint8))


def write(output, sheets=()):
    prepare_output(output)
    write_report(output, Inspection("title", (), (), sheets=sheets), lambda argument, value: "")


def test_earlier_report_is_replaced_with_its_sheets(tmp_path):
    output = tmp_path / "runs" / "look"
    write(output, [SHEET])
    assert {file.name for file in output.iterdir()} == {"index.html", "inspection.json", "train.png"}
    (output / "notes.txt").write_text("mine")
    write(output)
    assert {file.name for file in output.iterdir()} == {"index.html", "inspection.json", "notes.txt"}
    assert json.loads((output / "inspection.json").read_text())["written_by"] == "flaxseg.inspect_data"


@pytest.mark.parametrize("json_text", [None, "[]", "{}", '{"written_by": "another"}', "cut o"])
def test_files_of_the_user_are_not_overwritten(tmp_path, json_text):
    (tmp_path / "index.html").write_text("mine")
    if json_text is not None:
        (tmp_path / "inspection.json").write_text(json_text)
    with pytest.raises(ArgumentError, match=r"output = .* contains index.html.*, which inspect_data did not write"):
        prepare_output(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_directory_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="is a file; name a directory"):
        prepare_output(tmp_path / "file")
    with pytest.raises(ArgumentError, match=r"cannot be created \(Not a directory\); name another"):
        prepare_output(tmp_path / "file" / "below")
