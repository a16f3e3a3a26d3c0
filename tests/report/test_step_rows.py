"""Files of rows: a run that is resumed repeats no step, and a full disk costs no row."""

import os
import sys

import pytest

from flaxseg.errors import CheckpointError
from flaxseg.report.step_rows import StepRows

HEADER = "step,value\r\n"


def rows_of(path):
    return StepRows(path, lambda row: int(row.partition(",")[0]), header=HEADER)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("1,a\r\n2,b\r\n3,c\r\n", "1,a\r\n2,b\r\n"),
        ("1,a\r\n2,b\r\n", "1,a\r\n2,b\r\n"),
        ("1,a\r\n2,b", "1,a\r\n"),
        ("1,a\r\n3,c\r\n2,b\r\nx\r\n", "1,a\r\n2,b\r\n"),
        ("3,c\r\n", ""),
    ],
)
def test_later_and_incomplete_rows_are_cut_off(tmp_path, content, kept):
    path = tmp_path / "rows.csv"
    path.write_bytes((HEADER + content).encode())
    rows = rows_of(path)
    rows.cut_after(2)
    assert path.read_bytes() == (HEADER + kept).encode()
    rows.append(["3,new\r\n"])
    assert path.read_bytes() == (HEADER + kept + "3,new\r\n").encode()
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_repeated_rows_of_the_step_are_cut_off(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1,repeated\n2,a\n2,repeated\n")
    rows_of(path).cut_after(2, is_repeated=lambda row: "repeated" in row)
    assert path.read_text() == "1,repeated\n2,a\n"


def test_a_file_begins_with_its_header(tmp_path):
    path = tmp_path / "rows.csv"
    rows_of(path).cut_after(0)
    assert not path.exists()
    rows_of(path).append(["1,a\r\n", "2,b\r\n"])
    assert path.read_bytes() == (HEADER + "1,a\r\n2,b\r\n").encode()


def test_rows_that_cannot_be_written_are_written_later(tmp_path, capsys):
    path = tmp_path / "gone" / "rows.csv"
    rows = rows_of(path)
    rows.append(["1,a\r\n"])
    rows.append(["2,b\r\n"])
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: cannot be written (No such file or directory); training continues")
    assert error.count("\n") == 1
    path.parent.mkdir()
    rows.flush()
    assert path.read_bytes() == (HEADER + "1,a\r\n2,b\r\n").encode()


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_row_is_written_wholly_or_not_at_all(tmp_path):
    import resource
    import signal

    path = tmp_path / "rows.csv"
    rows = rows_of(path)
    rows.append(["1,a\r\n"])
    before = path.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # The second row fits only in part, as on a disk that is almost full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 3, limits[1]))
        rows.append(["2,bbbbbb\r\n"])
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    rows.append(["3,c\r\n"])
    assert path.read_bytes() == before + b"2,bbbbbb\r\n3,c\r\n"


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(CheckpointError, match=r"rows\.csv: cannot be read and written \(Is a directory\)"):
        rows_of(tmp_path / "rows.csv").cut_after(1)
