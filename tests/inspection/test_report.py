"""The report of an inspection as plain text, HTML and JSON."""

import json
from html.parser import HTMLParser

import numpy as np
from list_source import ListSource

from flaxseg.data.statistics import Problem, Statistics
from flaxseg.data.types import SegmentationDataset
from flaxseg.inspection.contact_sheet import ContactSheet
from flaxseg.inspection.findings import Finding, Setting
from flaxseg.inspection.report import as_json, html_page, terminal_text
from flaxseg.inspection.results import Inspection, Split
from flaxseg.inspection.tables import class_table, facts_table

ODD = "<script>alert('1 & 2')</script>"


def flag(argument, value):
    return f"--{argument}={value!r}"


def statistics(problems=()):
    return Statistics(
        num_classes=2,
        indices=np.array([0, 1]),
        ids=("a", "b"),
        sizes=np.array([[10, 20], [30, 20]]),
        channels=np.array([3, 3]),
        orientations=np.array([1, 1]),
        counts=np.array([[150, 50, 0], [0, 300, 300]]),
        is_float=np.ones(3, bool),
        value_range=(0.5, 255.0),
        clipped_fractions=(0.0, 0.0),
        mean=np.array([1.25, 2, 3]),
        std=np.array([4.0, 5, 6]),
        digests=(b"a", b"b"),
        hashes=np.zeros((2, 2), np.uint64),
        problems=tuple(problems),
    )


def inspection(severity="warning", problems=(), error=""):
    names = ("sky", ODD)
    dataset = SegmentationDataset(ListSource(), 2, names, ((1, 2, 3), (4, 5, 6)))
    splits = [
        Split("train", "train[:90%]", error, dataset, statistics(problems)),
        Split("eval", "val", "", dataset, statistics()),
    ]
    found = [Finding(severity, f"look at {ODD}", (Setting("if so", {"a": ("'",), "b": 2}),))]
    settings = [Setting("class weights (log)", {"class_weights": (1.0, 2.0)})]
    sheets = [ContactSheet("train.png", f"images {ODD}", np.zeros((1, 1, 3), np.uint8))]
    return Inspection(f"folder {ODD}", splits, found, settings, sheets)


class Parsed(HTMLParser):
    """The texts of a page, its tags with their attributes, and the tags that are still open."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page_is_well_formed_and_shows_every_text_literally():
    page = Parsed(html_page(inspection(problems=[Problem(3, f"m.png: {ODD}")]), flag))
    assert page.open == []
    assert "script" not in [tag for tag, _ in page.tags]
    text = "".join(page.texts)
    for part in (f"folder {ODD}", f"look at {ODD}", f"train 3: m.png: {ODD}", """--a=("'",) --b=2""", "70.00%"):
        assert part in text
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == ["train.png"]
    swatches = [attributes["style"] for tag, attributes in page.tags if attributes.get("class") == "swatch"]
    assert swatches == ["background: rgb(1, 2, 3)", "background: rgb(4, 5, 6)"]


def test_tables_show_both_splits():
    table = {row[0]: row[1:] for row in facts_table(inspection(problems=[Problem(3, "cut off")]))}
    assert table[""] == ["train (train[:90%])", "eval (val)"]
    assert table["examples"] == ["3", "2"] and table["unusable examples"] == ["1", "0"]
    assert table["height"][0] == "10 to 30 (quartiles 15, 20, 25)" and table["width"][0] == "20"
    assert table["channels"][0] == "3" and table["image values"][0] == "0.5 to 255, not 8 bit"
    assert table["mean"][0] == "1.2, 2.0, 3.0" and table["standard deviation"][0] == "4.0, 5.0, 6.0"
    assert table["ignored pixels"][0] == "37.50%" and table["fully ignored masks"][0] == "0"
    assert class_table(inspection())[1:] == [
        ["sky", "30.00%", "1", "30.00%", "1"],
        [ODD, "70.00%", "2", "70.00%", "2"],
    ]


def test_split_that_cannot_be_opened_has_no_classes():
    bare = inspection(error="no folder")
    assert class_table(bare) == [
        ["class", "eval pixels", "eval images"],
        ["sky", "30.00%", "1"],
        [ODD, "70.00%", "2"],
    ]
    assert {row[0]: row[1] for row in facts_table(bare)}["ignored pixels"] == "-"
    nothing = Inspection(
        "x", [Split("train", "train", "gone"), Split("eval", "val", "gone")], [Finding("error", "gone")]
    )
    assert terminal_text(nothing, flag) == "error: gone\n\nThis dataset cannot be trained on as it is: 1 error."
    assert Parsed(html_page(nothing, flag)).open == []


def test_verdict():
    assert inspection("note").verdict == "This dataset can be trained on."
    assert inspection("warning").verdict == "This dataset can be trained on; 1 warning."
    assert inspection("warning").trainable and not inspection("error").trainable


def test_terminal_text_shows_tables_settings_and_findings():
    text = terminal_text(inspection(problems=[Problem(i, f"file {i}") for i in range(12)]), flag)
    heading = "Optional settings: training works without them; choose at most one of several class weights:"
    assert f"{heading}\n\nclass weights (log):\n  --class_weights=(1.0, 2.0)" in text
    assert f"""warning: look at {ODD}\n  if so:\n    --a=("'",) --b=2""" in text
    assert "unusable examples:\n  train 0: file 0\n" in text and "file 9\n  and 2 more, listed on the page" in text
    columns = [line.split() for line in text.splitlines() if line.startswith("sky")]
    assert columns == [["sky", "30.00%", "1", "30.00%", "1"]]


def test_json_holds_findings_settings_and_tables():
    values = json.loads(json.dumps(as_json(inspection(), flag)))
    assert values["trainable"] is True
    assert values["findings"][0]["settings"] == [["if so", """--a=("'",) --b=2"""]]
    assert values["settings"] == {"class weights (log)": "--class_weights=(1.0, 2.0)"}
    assert values["classes"][1][0] == "sky"
