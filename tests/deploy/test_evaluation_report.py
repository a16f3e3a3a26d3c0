"""The report of evaluate: its numbers, its images, and where they come from."""

import dataclasses
import json

import numpy as np
import pytest
from report_pages import pairs, parse_page
from saved_run import save_run

import flaxseg
from flaxseg import evaluate
from flaxseg.data import MappedSource
from flaxseg.deploy.evaluation_report import evaluate_for_report, page_content, write_report
from flaxseg.deploy.predictor import Predictor
from flaxseg.errors import ArgumentError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the directory and the run; it logged a loss of 1 / step, and an mIoU of 0.5 at step 2."""
    directory = tmp_path_factory.mktemp("run")
    _, run, _ = save_run(directory, scores={2: 0.5, 4: 0.3})
    rows = [{"step": step, "train/loss": 1 / step} for step in range(1, 5)]
    rows += [{"step": 2, "eval/miou": 0.5, "eval/cross_entropy/mean": 0.75}, {"step": 4, "eval/miou": None}]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (directory / "metrics.jsonl").write_text(f'{text}not JSON\n{{"step": Infinity, "train/loss": 1}}\n[1]\n')
    return directory, run


@pytest.fixture(scope="module")
def evaluation(run):
    model = flaxseg.load(run[0], fold=False)
    return evaluate_for_report(model, run[1].data.evaluation, metrics=("per_image", "calibration"), batch_size=8)


def counts_of(label, prediction):
    """Returns intersection, label and prediction of each of five classes, int64[5, 3]."""
    valid = label != 255
    masks = [(valid & (label == index), valid & (prediction == index)) for index in range(5)]
    return np.array([[(a & b).sum(), a.sum(), b.sum()] for a, b in masks])


def test_the_command_prints_the_same_and_its_page_has_the_scores(run, tmp_path, capsys):
    directory, page = str(run[0]), tmp_path / "r.html"
    assert evaluate.main([directory, "--metrics=per_image,calibration", f"--json={tmp_path / 's.json'}"]) == 0
    expected = capsys.readouterr().out.partition("\n\ncalibration: ")[0]
    page.write_text("mine")
    assert evaluate.main([directory, f"--report={page}"]) == 1
    assert "r.html: exists; give another name, or --overwrite" in capsys.readouterr().err
    assert page.read_text() == "mine"
    arguments = [directory, f"--report={page}", "--overwrite"]
    assert evaluate.main(arguments) == 0
    assert capsys.readouterr().out == f"{expected}\n\nreport  {page}\n"
    root = parse_page(page.read_text())
    found, scores = pairs(root), json.loads((tmp_path / "s.json").read_text())["scores"]
    assert {name: float(found[name]) if found[name] else None for name in scores} == scores
    assert f"{directory} (step 2) on shapes, split test" in root.all("p", "lede")[0].text
    assert found["data.options.size"] == "(20, 27)" and found["train.batch_size"] == "16"
    assert root.all("pre")[0].text == f"flaxseg evaluate {' '.join(arguments)}"


def test_requested_metrics_are_in_the_order_of_the_scores(evaluation):
    assert list(evaluation.requested.others) == list(evaluation.scores.others) == ["calibration", "per_image"]
    np.testing.assert_array_equal(evaluation.sizes, [[20, 27]] * 16)
    plain = evaluation.model.evaluate(evaluation.dataset).confusion.counts
    np.testing.assert_array_equal(evaluation.requested.confusion.counts, plain)


def test_the_worst_and_best_images_are_those_of_the_scores(evaluation):
    rows, source = evaluation.scores.others["per_image"].rows, evaluation.dataset.source
    iou = evaluation.scores.others["per_image"].image_iou()
    content = page_content(evaluation, data="d", images=3)
    assert [shown.id for shown in content.worst] == [source.example_id(i) for i in np.argsort(iou, kind="stable")[:3]]
    assert [shown.iou for shown in content.best] == sorted(iou.tolist(), reverse=True)[:3]
    ids = [source.example_id(index) for index in range(16)]
    for shown in (*content.worst, *content.best):
        index = ids.index(shown.id)
        np.testing.assert_array_equal(counts_of(shown.label, shown.prediction), rows[index])
        np.testing.assert_array_equal(shown.image, source[index]["image"])
    everything = page_content(evaluation, data="d", images=99)
    assert sorted(shown.id for shown in (*everything.worst, *everything.best)) == sorted(ids)
    assert page_content(evaluation, data="d", images=0).worst == []


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"batch_size": 3}, {"resize": "keep", "image_size": (16, 16)}),
        ({"resolution": "image_size"}, {}),
        pytest.param({"batch_size": 3, "whole": True}, {"resize": "keep"}, marks=pytest.mark.long),
        pytest.param({"batch_size": 3}, {"resize": "keep", "scale": 0.5}, marks=pytest.mark.long),
    ],
)
def test_shown_predictions_are_what_was_scored(run, settings, changed):
    """In tiles, whole, at another scale, and at the size that images are resized to."""
    (member,) = flaxseg.load(run[0], fold=False).members
    described = dataclasses.replace(member.description, **changed)
    model, dataset = Predictor([dataclasses.replace(member, description=described)], fold=False), run[1].data.evaluation
    rows = evaluate_for_report(model, dataset, **settings).scores.others["per_image"].rows
    labels = list(model.evaluated_labels(dataset, [7, 0, 15], **settings))
    for index, prediction in zip([7, 0, 15], labels, strict=True):
        np.testing.assert_array_equal(rows[index, :, 2], np.bincount(prediction.ravel(), minlength=5))
        if "resolution" not in settings:
            np.testing.assert_array_equal(rows[index], counts_of(dataset.source[index]["label"], prediction))
        else:
            assert prediction.shape == (32, 32)


def test_an_ensemble_has_the_curves_and_licenses_of_its_members(run, evaluation, tmp_path):
    (member,) = evaluation.model.members
    members = [member, dataclasses.replace(member, name=f"{run[0]} (step 4)", step=4)]
    exported = dataclasses.replace(
        members[0], name="exported", config=None, step=None, folder=tmp_path,
        description=dataclasses.replace(members[0].description, source="hf:a/b", license="cc-by-nc-4.0"),
    )  # fmt: skip
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    model = Predictor([*members, exported], fold=False)
    content = page_content(dataclasses.replace(evaluation, model=model), data="d", images=0)
    assert content.network == "Ensemble of 3: plain_unet" and content.title == model.name
    assert content.licenses == {
        **{f"{run[0]} (step {step})": "not stated" for step in (2, 4)},
        "exported": "mit, from hf:a/b (cc-by-nc-4.0)",
    }
    assert [curve.step for curve in content.curves["Training loss"]] == [2, 4]
    loss = content.curves["Training loss"][0]
    assert loss.steps.tolist() == [1, 2, 3, 4] and loss.values.tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    miou = content.curves["mIoU during training"][0]
    assert (miou.steps.tolist(), miou.values.tolist()) == ([2], [0.5])
    loss = content.curves["Evaluation cross-entropy"][0]
    assert (loss.steps.tolist(), loss.values.tolist()) == ([2], [0.75])
    assert "Learning rate" not in content.curves
    assert content.config["data"]["name"] == "shapes"


def test_a_network_without_a_recorded_training_shows_no_configuration_of_one(run, evaluation):
    (member,) = evaluation.model.members
    public = dataclasses.replace(
        member, name="hf:a/b", config=None, folder=None, step=None,
        description=dataclasses.replace(member.description, source="hf:a/b@c", license="apache-2.0"),
    )  # fmt: skip
    given = {"data": {"dir": "d"}, "eval": {"batch_size": 8}, "train": {"steps": 0}}
    evaluation = dataclasses.replace(evaluation, model=Predictor([public], fold=False))
    content = page_content(evaluation, data="d", config=given, images=0)
    assert content.config == {"data": {"dir": "d"}, "eval": {"batch_size": 8}} and content.curves == {}
    assert content.licenses == {"hf:a/b": "apache-2.0, from hf:a/b@c"}
    assert "Training step" not in content.facts


def test_images_without_labels_are_excluded(run, evaluation):
    source = run[1].data.evaluation.source
    ignored = MappedSource(source, map_label=lambda label: np.full_like(label, 255) if label.sum() % 2 else label)
    dataset = dataclasses.replace(run[1].data.evaluation, source=ignored)
    valid = [index for index in range(16) if (ignored[index]["label"] != 255).any()]
    content = page_content(evaluate_for_report(evaluation.model, dataset, batch_size=8), data="d", images=1)
    assert 0 < len(valid) < 16
    assert list(content.images.ids) == [source.example_id(index) for index in valid]


def test_a_report_as_a_library_call(evaluation, tmp_path):
    path = tmp_path / "new" / "r.html"
    write_report(path, evaluation, data="<my data>", images=2)
    root = parse_page(path.read_text())
    assert "<my data>" in root.all("title")[0].text and len(root.all("figure", "example")) == 4
    assert len(root.all("svg", "plot")) == 7
    with pytest.raises(ArgumentError, match="images = -1: must be"):
        write_report(path, evaluation, data="d", images=-1)
