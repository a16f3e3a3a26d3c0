"""The logs of a run that is killed and resumed are those of a run that was not, with either writer and with both."""

import json
import re
import shutil
import signal
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
from flax import traverse_util
from logged_events import events
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError
from flaxseg.train.build import build
from flaxseg.train.callbacks import Callback
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = [
    "log.hardest=2",
    "log.images=3",
    "log.worst=4",
    "log.batch=2",
    "log.histograms=('parameters','gradients')",
    "augment.flip=0.5",
    "data.options.size=(20,27)",
]

KILLED = f"""
import importlib.machinery, os, signal, sys, time
from pathlib import Path

workdir, writer, folder = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class WithoutTensorFlow(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else super().find_spec(name, path, target)

if writer == "tensorboard":
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutTensorFlow

from flaxseg.config.files import load_config
from flaxseg.main import main
from flaxseg.train.callbacks import Callback
from flaxseg.errors import ConfigError
from flaxseg.train.loop import train_and_evaluate

class Killer(Callback):
    # After the evaluation of step 6 and before its checkpoint.
    def on_evaluation(self, step, evaluation):
        if step == 6:
            while not list(workdir.glob("checkpoints/3/*.json")):
                time.sleep(0.01)
            assert ("tensorflow" in sys.modules) == (writer == "clu")
            os.kill(os.getpid(), signal.SIGKILL)

if writer == "tensorboard":
    tiny = ["train.steps=1", "data.image_size=(32,32)", "model.options.width=4", "model.options.depth=1"]
    flags = [f"--config.{{key}}" for key in [f"data.dir={{folder}}", "train.batch_size=8", *tiny]]
    assert main(["--config=configs/folder.py", f"--workdir={{folder}}/run", *flags]) == 0

train_and_evaluate(load_config("configs/shapes.py:tiny", {OVERRIDES!r}), workdir, callbacks=[Killer()])
"""


@pytest.fixture(scope="module", autouse=True)
def quick_confusion_figures():
    """Leaves the figures as they are, because some of these runs are in processes of their own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder of ten images and masks of two classes."""
    directory, rng = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for name, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
        (directory / name).mkdir()
        for index in range(10):
            values = rng.integers(0, 256 if name == "images" else 2, shape, dtype=np.uint8)
            cv2.imwrite(str(directory / name / f"{index}.png"), values)
    return directory


class Evaluations(Callback):
    """Keeps the evaluations of a run by their steps."""

    def __init__(self):
        self.found = {}

    def on_evaluation(self, step, evaluation):
        self.found[step] = evaluation


@pytest.fixture(scope="module")
def evaluations():
    """Returns a callback that keeps the evaluations of the first of the runs below."""
    return Evaluations()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, evaluations):
    """Returns the directories of two runs of six steps, by the writer of their events."""
    logdir = tmp_path_factory.mktemp("runs")
    return {
        name: train(logdir / name, name, callbacks=[evaluations] if name == "clu" else [])
        for name in ("clu", "tensorboard")
    }


@pytest.fixture(scope="module")
def expected(whole):
    """Returns the events of a run of six steps."""
    return comparable(whole["clu"])


@pytest.fixture(scope="module", params=[pytest.param("clu", marks=pytest.mark.long), "tensorboard"])
def killed(request, tmp_path_factory, folder):
    """Returns the directory of a run that was killed before the checkpoint of step 6; the second has no TensorFlow."""
    workdir = tmp_path_factory.mktemp("killed")
    arguments = [sys.executable, "-c", KILLED, str(workdir), request.param, str(folder)]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    # What is to be removed is there.
    assert [row["step"] for row in metrics(workdir)] == [2, 3, 3, 4, 6, 6]
    assert [step for step, _ in events(workdir)["train/loss"]] == [2, 3, 4, 6]
    assert (workdir / "images" / "0000006_predictions.png").exists()
    assert (workdir / "per_image.csv").read_text().splitlines()[1].startswith("6,")
    # A later figure that the resumed run will not write, and one that was not finished.
    shutil.copy(workdir / "images" / "0000006_predictions.png", workdir / "images" / "0000005_predictions.png")
    (workdir / "images" / "0000006_confusion_matrix.png").write_bytes(b"unfinished")
    return workdir


def train(workdir, writer, callbacks=()):
    config = load_config("configs/shapes.py:tiny", [*OVERRIDES, f"log.writer={writer}"])
    train_and_evaluate(config, workdir, callbacks=callbacks)
    return workdir


def metrics(workdir):
    return [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_times(row):
    return {name: value for name, value in row.items() if name != "wall_time" and "per_second" not in name}


def comparable(workdir):
    """Returns the events of a run without speeds, and without the name of the writer."""
    found = events(workdir)
    ((_, (_, _, hparams)),) = found.pop("_hparams_/session_start_info")
    del hparams["log.writer"]
    ((step, (kind, dtype, text)),) = found["config"]
    found["config"] = step, kind, dtype, [row for row in text.splitlines() if b"log.writer" not in row]
    for tag in found:
        if "per_second" in tag:
            found[tag] = [step for step, _ in found[tag]]
    return found, hparams


def test_metrics_have_a_row_for_each_logged_step_and_evaluation(whole):
    rows = metrics(whole["clu"])
    assert [(row["step"], "train/loss" in row, "eval/miou" in row) for row in rows] == [
        (2, True, False),
        (3, True, False),
        (3, False, True),
        (4, True, False),
        (6, True, False),
        (6, False, True),
    ]
    written = events(whole["clu"])
    for row in rows:
        for name in row.keys() - {"step", "wall_time"}:
            _, _, value = dict(written[name])[row["step"]]
            assert row[name] == pytest.approx(value, rel=1e-6), name


def test_both_writers_write_the_same_events_of_a_run(whole, expected):
    found, hparams = comparable(whole["tensorboard"])
    assert (found, hparams) == expected
    assert [step for step, _ in found["train/loss"]] == [2, 3, 4, 6]
    assert [step for step, _ in found["eval/predictions"]] == [3, 6]
    assert hparams["train.steps"] == ("number_value", 6.0)
    assert hparams["model.options.width"] == ("number_value", 4.0)
    assert [step for step, _ in found["train/batch"]] == [0, 3, 6]
    for name in ("eval/worst", "parameters/head/kernel", "gradients/head/kernel"):
        assert [step for step, _ in found[name]] == [3, 6]
    assert b"| `train.steps` | **`6`** | `0` |" in found["config"][3]


def test_histograms_count_every_parameter(whole, evaluations):
    found = events(whole["clu"])
    params = evaluations.found[6].state.params
    sizes = {path: leaf.size for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}
    for kind in ("parameters", "gradients"):
        tags = {tag.removeprefix(f"{kind}/"): values for tag, values in found.items() if tag.startswith(f"{kind}/")}
        assert tags.keys() == sizes.keys()
        for path, values in tags.items():
            assert [sum(row[2] for row in table) for _, (_, _, table) in values] == [sizes[path]] * 2
    ((_, _, table),) = [value for step, value in found["parameters/head/kernel"] if step == 6]
    kernel = np.asarray(params["head"]["kernel"], np.float64)
    assert (table[0][0], table[-1][1]) == (kernel.min(), kernel.max())


def test_the_same_images_are_shown_each_time_and_the_worst_as_they_are_scored(whole, evaluations):
    source = build(load_config("configs/shapes.py:tiny", OVERRIDES)).data.evaluation.source
    for step, evaluation in evaluations.found.items():
        for shown, index in zip(evaluation.images, (0, 5, 10), strict=True):
            np.testing.assert_array_equal(shown.image, source[index]["image"])
            np.testing.assert_array_equal(shown.label, source[index]["label"])
            assert shown.title.startswith(f"{source[index]['id']}: IoU 0.")
        scores = [mean_iou(shown.label, shown.prediction) for shown in evaluation.worst]
        lowest = sorted(evaluation.metrics.others["per_image"].image_iou()[:16])[:4]
        assert scores == lowest and scores[0] < scores[3]
        assert [shown.title.rpartition(" ")[2] for shown in evaluation.worst] == [f"{score:.3f}" for score in scores]
        assert step in (3, 6)
    rows = [row.split(",") for row in (whole["clu"] / "per_image.csv").read_text().splitlines()[1:5]]
    assert [f"{row[1]}: IoU {float(row[2]):.3f}" for row in rows] == [shown.title for shown in evaluation.worst]


def mean_iou(label, prediction):
    """Returns the mean IoU over the classes in a label or a prediction."""
    valid = label != 255
    label, prediction = label[valid], prediction[valid]
    pairs = [(label == k, prediction == k) for k in range(5)]
    found = [(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]
    return sum(found) / len(found)


def test_tensorboard_compares_runs_by_their_metrics(whole, evaluations):
    """Read by TensorBoard's own HParams tab."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(whole["clu"].parent)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, "")))
    columns = api_pb2.ColParams(
        metric=api_pb2.MetricName(tag="eval/miou"), order=api_pb2.ORDER_DESC, missing_values_first=False
    )
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_UNKNOWN], col_params=[columns], slice_size=9
    )
    answer = Handler(RequestContext(), context, "", request).run()
    assert sorted(group.name for group in answer.session_groups) == ["clu", "tensorboard"]
    scores = evaluations.found[6].scores
    for group in answer.session_groups:
        values = {value.name.tag: value.value for value in group.metric_values}
        assert values.keys() == {"eval/miou", "eval/mean_dice", "eval/pixel_accuracy", "train/loss"}
        for name in ("miou", "mean_dice", "pixel_accuracy"):
            assert values[f"eval/{name}"] == pytest.approx(scores[name], rel=1e-6)
        assert group.hparams["log.writer"].string_value == group.name
        assert group.hparams["optimizer.learning_rate"].number_value == 3e-3
    metadata = context.hparams_metadata(RequestContext(), "")
    experiment = context.experiment_from_metadata(RequestContext(), "", True, metadata, [])
    first = [column.name for column in experiment.hparam_infos if column.differs]
    assert "optimizer.learning_rate" in first and "augment.blur" not in first


def test_one_chart_holds_the_iou_of_each_class(whole):
    """Read by TensorBoard's own Custom Scalars tab."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of a package within tensorboard.
        from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
        from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(whole["clu"].parent)).Reload()
    plugins = {}
    tab = TBContext(data_provider=MultiplexerDataProvider(multiplexer, ""), plugin_name_to_instance=plugins, logdir="")
    plugins["scalars"] = ScalarsPlugin(tab)
    plugin = CustomScalarsPlugin(tab)
    (category,) = json.loads(plugin.layout_impl(RequestContext(), ""))["category"]
    chart = next(chart for chart in category["chart"] if chart["title"] == "IoU of each class")
    (pattern,) = chart["multiline"]["tag"]
    for run in ("clu", "tensorboard"):
        lines = plugin.scalars_impl(RequestContext(), run, pattern, "")["tag_to_events"]
        assert sorted(lines) == [f"eval/iou/{name}" for name in ("background", "border", "disc", "square", "triangle")]
        assert [[event[1] for event in line] for line in lines.values()] == [[3, 6]] * 5
    chart = next(chart for chart in category["chart"] if "training loss" in chart["title"])
    (pattern,) = chart["multiline"]["tag"]
    tags = ("train/loss", "train/loss/dice", "eval/cross_entropy/mean", "eval/cross_entropy/disc", "eval/miou")
    assert [tag for tag in tags if re.match(pattern, tag)] == ["train/loss", "eval/cross_entropy/mean"]


@pytest.mark.parametrize("writer", [pytest.param("clu", marks=pytest.mark.long), "tensorboard"])
def test_logs_of_a_killed_run_have_no_step_twice_and_none_missing(whole, expected, killed, tmp_path, writer):
    workdir = train(shutil.copytree(killed, tmp_path, dirs_exist_ok=True), writer)
    assert comparable(workdir) == expected
    assert [without_times(row) for row in metrics(workdir)] == [without_times(row) for row in metrics(whole["clu"])]
    for name in ("hardest_examples.csv", "per_image.csv"):
        assert (workdir / name).read_bytes() == (whole["clu"] / name).read_bytes()
    assert files(workdir / "images") == files(whole["clu"] / "images")


def test_hardest_examples_are_listed_for_each_logged_step(whole):
    rows = (whole["clu"] / "hardest_examples.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", *(str(step) for step in (2, 2, 3, 3, 4, 4, 6, 6))]


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_clus_writer_without_tensorflow_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"^config\.log\.writer = 'clu': CLU's writer needs TensorFlow: .* 'tensorb"):
        train(tmp_path / "new", "clu")
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
