"""CSV files of rows by step: columns may grow, a run that is resumed repeats no row, and a full disk costs none."""

import csv
import os
import sys

import pytest

from flaxseg.errors import CheckpointError
from flaxseg.report.step_table import StepTable

FIRST = {"step": 2, "loss": 1 / 3}
EVALUATION = {"step": 2, "iou/cat, big": 0.5}


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_new_columns_are_added_on_the_right_and_earlier_rows_are_empty_there(tmp_path):
    table = StepTable(tmp_path / "t.csv")
    for row in (FIRST, EVALUATION, {"loss": 0.25, "step": 4}, {"step": 4, "new": 1.0, "iou/cat, big": 1e-7}):
        table.append(row)
    assert read(tmp_path / "t.csv") == [
        ["step", "loss", "iou/cat, big", "new"],
        ["2", "0.3333333333333333", "", ""],
        ["2", "", "0.5", ""],
        ["4", "0.25", "", ""],
        ["4", "", "1e-07", "1.0"],
    ]
    assert os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("lost", [0, 1, 9], ids=["whole", "line break", "half a row"])
def test_a_resumed_run_has_the_file_of_a_whole_one(tmp_path, lost):
    whole, resumed = (tmp_path / name for name in ("whole.csv", "resumed.csv"))
    rows = [FIRST, EVALUATION, {"step": 4, "loss": 0.25}, {"step": 6, "loss": 0.125, "late": 1.0}]
    for path in (whole, resumed):
        table = StepTable(path)
        for row in rows:
            table.append(row)
    resumed.write_bytes(resumed.read_bytes()[: -lost or None])
    table = StepTable(resumed)
    table.cut_after(2)
    for row in rows[2:]:
        table.append(row)
    assert resumed.read_bytes() == whole.read_bytes()


def test_repeated_rows_of_the_step_are_cut_off_and_a_new_beginning_has_its_own_columns(tmp_path):
    path = tmp_path / "t.csv"
    table = StepTable(path)
    table.append(FIRST)
    table.append(EVALUATION)
    table.cut_after(2, is_repeated=lambda row: "loss" not in row)
    assert read(path) == [["step", "loss", "iou/cat, big"], ["2", "0.3333333333333333", ""]]
    table.cut_after(1)
    table.append({"step": 1, "other": 0.5})
    assert read(path) == [["step", "other"], ["1", "0.5"]]
    StepTable(tmp_path / "none.csv").cut_after(3)
    assert not (tmp_path / "none.csv").exists()


def test_rows_that_cannot_be_written_are_written_later_unless_the_run_goes_back(tmp_path, capsys):
    path = tmp_path / "gone" / "t.csv"
    table = StepTable(path)
    table.append(FIRST)
    table.append({"step": 4, "new": 0.5})
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: cannot be written (No such file or directory); training continues")
    assert error.count("\n") == 1
    table.cut_after(3)
    path.parent.mkdir()
    table.append(EVALUATION)
    assert read(path)[1:] == [["2", "0.3333333333333333", ""], ["2", "", "0.5"]]


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("row", [{"step": 4, "loss": 0.25}, {"step": 4, "new column": 0.25}])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, row):
    import resource
    import signal

    path = tmp_path / "t.csv"
    table = StepTable(path)
    table.append(FIRST)
    before = path.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 3, limits[1]))
        table.append(row)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["t.csv"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    table.flush()
    assert [each[0] for each in read(path)] == ["step", "2", "4"]


def test_a_deleted_file_begins_with_its_columns_again(tmp_path):
    path = tmp_path / "t.csv"
    table = StepTable(path)
    table.append(FIRST)
    for row in ({"step": 4, "loss": 0.25}, {"step": 6, "new": 0.5}):
        path.unlink()
        table.append(row)
    assert read(path) == [["step", "loss", "new"], ["6", "", "0.5"]]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\x00\xff\n", b'"' + b"x" * 200_000])
def test_a_file_of_something_else_stays(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"t\.csv: is not a table of steps of flaxseg; move it away"):
        StepTable(path).cut_after(1)
    assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"t\.csv: cannot be read and written \(Is a directory\)"):
        StepTable(path).cut_after(1)
