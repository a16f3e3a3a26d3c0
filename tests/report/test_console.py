"""Output to a terminal, or to a file on a full disk."""

import io
import sys

from tqdm import tqdm

from flaxseg.report.console import print_line, standard_error


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    flush = write


def test_nothing_is_raised_where_standard_error_cannot_be_written(monkeypatch):
    stream = Full()
    stream.flush = lambda: stream.write("")
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=3, file=standard_error(), mininterval=0) as bar:
        bar.update()
        print_line("a line")
        bar.set_description("bar")


def test_a_line_and_a_bar_are_written(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=3, file=standard_error(), mininterval=0) as bar:
        bar.update(2)
        print_line("a line")
    assert "2/3" in stream.getvalue()
    assert "\ra line\n" in stream.getvalue(), "the bar was cleared before"
