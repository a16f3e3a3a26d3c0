"""CLU's writer and the one without TensorFlow write the same summaries."""

import subprocess
import sys

import numpy as np
import pytest
from logged_events import digest, events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flaxseg.errors import ArgumentError
from flaxseg.report import metric_writers
from flaxseg.report.charts import chart_layout
from flaxseg.report.drawing import encode_png
from flaxseg.report.event_files import drop_repeated_events, event_files
from flaxseg.report.histograms import histogram_summaries
from flaxseg.report.hparams import HyperParameters, hparams_summaries
from flaxseg.report.image_summaries import image_summaries
from flaxseg.report.metric_writers import TensorBoardWriter, check_writer, open_writer

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def write(writer):
    hparams = HyperParameters({"seed": 3, "rate": 0.1, "name": "ü", "flag": True}, {"rate"}, ["eval/miou"])
    image = image_summaries("image", encode_png(IMAGE), height=5, width=7)
    for made in (hparams_summaries(hparams), chart_layout(), histogram_summaries({"weights": np.arange(60)}), image):
        values, metadata = ({name: summary[part] for name, summary in made.items()} for part in (0, 1))
        writer.write_summaries(0, values, metadata)
    writer.write_texts(0, {"table": "<pre>a\n| ü |</pre>", "empty": ""})
    for step in (1, 2**40):
        writer.write_scalars(step, {"train/loss": 0.1 * step, "eval/IoU of a class": np.float32(1 / 3), "count": 7})
    writer.write_scalars(3, {"bad": float("inf")})
    writer.flush()
    writer.close()


def test_both_writers_write_the_same_summaries(tmp_path):
    for name in ("clu", "tensorboard"):
        write(open_writer(tmp_path / name, writer=name))
    ours, clus = events(tmp_path / "tensorboard"), events(tmp_path / "clu")
    assert ours == clus
    assert ours["train/loss"] == [(step, ("scalars", "float32", float(np.float32(0.1 * step)))) for step in (1, 2**40)]
    assert ours["bad"] == [(3, ("scalars", "float32", float("inf")))]
    assert ours["table"] == [(0, ("text", "object", "<pre>a\n| ü |</pre>".encode()))]
    assert ours["image"] == [(0, ("images", 7, 5, [digest(IMAGE)]))]
    ((step, (_, _, hparams)),) = ours["_hparams_/session_start_info"]
    assert (step, hparams["rate"], hparams["flag"]) == (0, ("number_value", 0.1), ("bool_value", True))
    columns = [("flag", False), ("name", False), ("rate", True), ("seed", False)]
    assert ours["_hparams_/experiment"] == [(0, ("columns", columns, ["eval/miou"]))]
    assert ours["custom_scalars__config__"][0][1][:2] == ("custom_scalars", "object")
    ((step, (_, _, buckets)),) = ours["weights"]
    assert (step, len(buckets), buckets[0]) == (0, 30, [0, 59 / 30, 2])
    assert len(ours) == 11
    for name in ours:
        ours_metadata, clus_metadata = (
            EventAccumulator(str(tmp_path / writer)).Reload().SummaryMetadata(name) for writer in ("tensorboard", "clu")
        )
        assert ours_metadata.plugin_data.plugin_name == clus_metadata.plugin_data.plugin_name
        assert ours_metadata.data_class == clus_metadata.data_class


def test_both_writers_share_a_directory(tmp_path):
    for step, name in enumerate(["clu", "tensorboard", "clu", "tensorboard"], start=1):
        writer = open_writer(tmp_path, writer=name)
        writer.write_scalars(step, {"loss": float(step)})
        writer.close()
    assert len(event_files(tmp_path)) == 4
    found = events(tmp_path)["loss"]
    assert sorted(step for step, _ in found) == [1, 2, 3, 4]
    drop_repeated_events(event_files(tmp_path), 2)
    assert sorted(events(tmp_path)["loss"]) == [(n, ("scalars", "float32", float(n))) for n in (1, 2)]


def test_a_call_returns_when_its_summaries_are_in_the_file(tmp_path):
    writer = TensorBoardWriter(tmp_path / "new" / "folder")
    writer.write_scalars(1, {"loss": 0.5})
    assert events(tmp_path / "new" / "folder") == {"loss": [(1, ("scalars", "float32", 0.5))]}
    writer.close()


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(open_writer(tmp_path, writer="tensorboard", just_logging=True))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_must_exist_and_be_installed(monkeypatch):
    for writer in metric_writers.WRITERS:
        check_writer(writer)
    with pytest.raises(ArgumentError, match="writer = 'tensorbord': must be one of .*; did you mean 'tensorboard'"):
        check_writer("tensorbord")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    check_writer("auto")
    with pytest.raises(ArgumentError, match="writer = 'clu': .* TensorFlow: pip install .*, or use"):
        check_writer("clu")


WITHOUT_TENSORFLOW = """
import sys
from pathlib import Path
import numpy as np
from flaxseg.report.charts import chart_layout
from flaxseg.report.drawing import encode_png
from flaxseg.report.event_files import drop_repeated_events, event_files
from flaxseg.report.event_writer import EventWriter
from flaxseg.report.hparams import HyperParameters, hparams_summaries
from flaxseg.report.image_summaries import image_summaries
directory = Path(sys.argv[1])
writer = EventWriter(directory, writer="tensorboard")
writer.write_summaries(0, lambda: hparams_summaries(HyperParameters({"a": 1})))
writer.write_summaries(0, chart_layout)
png = encode_png(np.zeros((2, 2, 3), np.uint8))
writer.write_summaries(1, lambda: image_summaries("image", png, height=2, width=2))
writer.write_texts(0, {"table": "text"})
writer.write_scalars(1, {"loss": 1.0})
writer.write_scalars(2, {"loss": 2.0})
writer.close()
drop_repeated_events(event_files(directory), 1)
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]
print("done")
"""


def test_tensorboards_writer_does_not_import_tensorflow_where_it_is_installed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert {tag: [step for step, _ in found] for tag, found in events(tmp_path).items()} == {
        "image": [1], "table": [0], "loss": [1], "custom_scalars__config__": [0]
    }  # fmt: skip
