"""Whole runs with the options of the loss, the optimizer and the metrics."""

import csv
import json

import jax
import numpy as np
import pytest
from one_compilation import compile_once

from flaxseg.config.files import load_config
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = [
    "loss.dice=0.5",
    "class_weights=median_frequency",
    "optimizer.schedule=plateau",
    "optimizer.schedule_options.window=1",
    "optimizer.schedule_options.patience=1",
    "optimizer.lr_scale=(('head',2.0),)",
    "optimizer.layer_decay=0.8",
    "optimizer.accumulate_steps=2",
    "eval.metrics=('per_image','boundary','surface','calibration')",
    "log.hardest=2",
    "log.every=3",
    "mesh.data=1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the directory and result of six steps with all of these options, resumed once after step 5."""
    workdir = tmp_path_factory.mktemp("learning")
    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        train_and_evaluate(load_config("configs/shapes.py:tiny", [*OVERRIDES, "train.steps=5"]), workdir)
        return workdir, train_and_evaluate(load_config("configs/shapes.py:tiny", OVERRIDES), workdir)


def test_every_metric_is_computed_and_shown(run):
    workdir, result = run
    scores = result.scores.compute()
    assert scores["per_image/images"] == 16
    assert 0 <= scores["per_image/miou_low"] <= scores["per_image/miou"] <= scores["per_image/miou_high"] <= 1
    # Images of one size that hold every class: the mean over images of the pooled IoU is near that of all pixels.
    assert scores["per_image/micro_iou"] == pytest.approx(scores["micro_iou"], abs=0.05)
    assert 0 <= scores["boundary/miou"] <= scores["miou"] + 0.2 and 0 < scores["surface/hd95"] < 46
    assert 0 < scores["calibration/ece"] < 1
    text = result.table()
    for title in (
        "mean Dice",
        "per_image: means over 16 images: mIoU 0.",
        "boundary: miou",
        "surface: hd95",
        "calibration: ece",
    ):
        assert title in text
    with (workdir / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and rows[0]["step"] == "6" and rows[0]["id"].startswith("shapes test")
    ious = [float(row["iou"]) for row in rows]
    assert ious == sorted(ious) and np.mean(ious) == pytest.approx(scores["per_image/miou"], abs=1e-5)
    assert (workdir / "images" / "0000006_reliability.png").is_file()


def test_class_weights_are_stored_with_the_run(run):
    weights = json.loads((run[0] / "class_weights.json").read_text())
    assert list(weights) == ["background", "disc", "square", "triangle", "border"]
    assert sorted(weights.values())[2] == 1.0  # the median over itself


def test_hardest_examples_are_listed_by_id(run):
    with (run[0] / "hardest_examples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "3", "5", "5", "6", "6"]
    assert all(row["id"].startswith("shapes train") for row in rows)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert float(first["loss"]) >= float(second["loss"]) > 0 and first["id"] != second["id"]
    assert (run[0] / "images" / "0000006_hardest_examples.png").is_file()


@pytest.mark.long
def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path):
    result = train_and_evaluate(load_config("configs/shapes.py:tiny", OVERRIDES), tmp_path)
    trees = (jax.device_get(r.state) for r in (run[1], result))
    jax.tree.map(np.testing.assert_array_equal, *trees)


@pytest.mark.long
def test_an_encoder_loaded_from_another_run_and_frozen_stays_unchanged(run, tmp_path):
    # From another run, the moving average of the parameters is taken if it has one.
    before = run[1].state
    before = before.replace(params=before.ema_params or before.params)
    overrides = [f"model.pretrained={run[0]}", "optimizer.freeze=('encoder',)", "train.steps=3"]
    after = train_and_evaluate(load_config("configs/shapes.py:tiny", overrides), tmp_path).state
    for name in ("params", "batch_stats"):
        old, new = (jax.device_get(getattr(state, name)) for state in (before, after))
        jax.tree.map(np.testing.assert_array_equal, old["encoder"], new["encoder"])
        changed = jax.tree.map(lambda x, y: bool((x != y).any()), old["decoder"], new["decoder"])
        assert all(jax.tree.leaves(changed))
    shapes = {leaf.shape for leaf in jax.tree.leaves(after.opt_state)}
    assert after.params["encoder"]["level0"]["block0"]["conv"]["kernel"].shape not in shapes
