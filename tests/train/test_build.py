"""From a configuration to the parts of a run: each builder alone, and all of them together."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from list_source import ListSource

from flaxseg.config.files import load_config
from flaxseg.data import memory
from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset, Selection
from flaxseg.errors import CheckpointError, ConfigError, DataError, MissingMasks, UnknownColors
from flaxseg.models import plain_unet
from flaxseg.train.build import build, build_data, build_loop, build_mesh, build_model_part, schedule_maker
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.parts import data as data_builder
from flaxseg.train.parts.model import describe_model
from flaxseg.train.workdir import Workdir


def tiny(*overrides):
    return load_config("configs/shapes.py:tiny", overrides)


@pytest.fixture(scope="module")
def run():
    return build(tiny())


def test_a_run_has_four_frozen_parts_of_at_most_eight_fields(run):
    parts = [getattr(run, field.name) for field in dataclasses.fields(run)]
    assert len(parts) == 4
    for part in parts:
        fields = dataclasses.fields(part)
        assert 1 <= len(fields) <= 8, type(part).__name__
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, fields[0].name, None)


def test_the_model_needs_no_data():
    config = tiny("data.name=folder", "data.dir=/does/not/exist", "data.options={}")
    part = build_model_part(config, 7, 4)
    assert part.module == plain_unet(num_classes=7, width=4, depth=1)
    assert (part.num_classes, part.image_shape) == (7, (32, 32, 4))
    first, head = part.variables["params"]["encoder"]["level0"]["block0"]["conv"], part.variables["params"]["head"]
    assert first["kernel"] == jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32)
    assert head["bias"] == jax.ShapeDtypeStruct((7,), jnp.float32)
    assert part.pretrained is None and part.frozen is None
    with pytest.raises(DataError, match="/does/not/exist"):
        build(config)


def test_the_plan_of_the_loop_needs_only_the_number_of_examples(run):
    config = tiny("train.steps=0", "train.epochs=2.5", "eval.every=0", "mesh.data=4")
    loop = build_loop(config, build_mesh(config), num_examples=100)
    assert dict(loop.mesh.shape) == {"replicas": 1, "data": 4, "fsdp": 1, "spatial": 1}
    # An epoch of 100 examples has six batches of 16.
    assert (loop.total_steps, loop.evaluation.every, loop.checkpoints.every) == (15, 6, 6)
    assert build_loop(tiny(), build_mesh(tiny()), num_examples=16) == run.loop


def test_the_iou_of_a_class_may_select_the_best_checkpoint():
    assert build(tiny("checkpoint.best_metric=iou/disc")).loop.checkpoints.best_metric == "iou/disc"


def test_the_data_needs_no_model(run):
    data = build_data(tiny(), build_mesh(tiny()))
    assert (data.train.num_classes, data.channels, len(data.train.source)) == (5, 3, 16)
    np.testing.assert_array_equal(data.train_batches[3]["image"], run.data.train_batches[3]["image"])


def test_the_batch_of_a_step_does_not_depend_on_where_iteration_starts(run):
    batches, late = run.data.train_batches, run.data.iterate(run.data.train_batches, start=4)
    with contextlib.closing(late):
        for step in (4, 5, 6):
            batch = next(late)
            np.testing.assert_array_equal(batch["image"], batches[step]["image"])
            np.testing.assert_array_equal(batch["label"], batches[step]["label"])
            assert (batch["label"] != IGNORE_LABEL).all()


def test_nothing_is_computed_on_a_device():
    compiled = []

    def count(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    before = {id(array) for array in jax.live_arrays()}
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        # Sizes of no other test, for which nothing is compiled yet.
        run = build(tiny("data.image_size=(38,22)", "optimizer.layer_decay=0.9", "class_weights=median_frequency"))
        jax.jit(lambda: jnp.arange(3) * 38)()
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(compiled) == 1, "the listener hears the last line, and nothing of the run was compiled"
    del run
    assert {id(array) for array in jax.live_arrays()} <= before


def test_a_given_schedule_is_used(capfd):
    # The warm-up of the configuration's own schedule is longer than the run.
    config = tiny(
        "optimizer.name=sgd", "optimizer.options={}", "optimizer.options.momentum=0.0", "optimizer.weight_decay=0.0",
        "optimizer.grad_clip=0.0", "optimizer.warmup_steps=50",
    )  # fmt: skip
    run = build(config, schedule=lambda step: 0.25 + step)
    assert capfd.readouterr().err == ""
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), run.model.variables["params"]["head"])
    state = run.optim.tx.init({"head": params})
    for rate in (0.25, 1.25):
        updates, state = run.optim.tx.update({"head": params}, state, {"head": params})
        np.testing.assert_allclose(updates["head"]["bias"], np.full(5, -rate))


def test_a_warm_up_of_more_than_half_of_the_run_is_shortened():
    config = tiny("optimizer.warmup_steps=50")
    schedule = schedule_maker(config, 20)(config.optimizer.learning_rate)
    rates = [float(schedule(step)) for step in range(4)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(config.optimizer.learning_rate) and rates[3] < rates[2]


def test_one_cycle_begins_at_once_where_the_configuration_has_a_warm_up():
    config = tiny("optimizer.warmup_steps=40", "optimizer.schedule=one_cycle")
    schedule = schedule_maker(config, 120)(0.5)
    # It rises for 30% of the run, from 1/25 of the peak on.
    assert [float(schedule(step)) for step in (0, 35)] == [pytest.approx(0.02), pytest.approx(0.5)]


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_workdir_is_only_read(tmp_path):
    config, workdir = tiny("class_weights=median_frequency"), Workdir(tmp_path / "run")
    run = build(config, workdir=workdir)
    assert not workdir.path.exists()
    workdir.claim(config, run.data.splits, describe_model(config, run.model, run.data.train))
    names, before = run.data.train.class_names, contents(workdir.path)
    assert build(config, workdir=workdir).optim.class_weights == run.optim.class_weights
    assert contents(workdir.path) == before
    workdir.class_weights.write_text(json.dumps(dict(zip(names, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))))
    assert build(config, workdir=workdir).optim.class_weights == (1.0, 2.0, 3.0, 4.0, 5.0)
    with pytest.raises(CheckpointError, match="config.seed"):
        build(tiny("class_weights=median_frequency", "seed=5"), workdir=workdir)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "loss_options.cross_entropy.class_weights=(1,2,3)",
            "config.loss_options.cross_entropy.class_weights = .*3 weights for 5",
        ),
        ("class_weights=(1,2,3)", r"config.class_weights = \(1.0, 2.0, 3.0\): 3 weights for 5 classes"),
        (
            "checkpoint.best_metric=iou/dics",
            "^config.checkpoint.best_metric = 'iou/dics': must be one of 'iou/background', .*; did you mean 'iou/disc'",
        ),
        ("optimizer.freeze=('encodr',)", "config.optimizer.freeze = 'encodr': matches no parameter"),
        ("optimizer.freeze=('.*',)", "config.optimizer.freeze = .*covers every parameter"),
        ("optimizer.lr_scale=(('heads',2),)", "config.optimizer.lr_scale = 'heads': matches no parameter"),
        (
            "optimizer.accumulate_steps=3",
            "does not divide into optimizer.accumulate_steps = 3 micro-batches",
        ),
        (
            "optimizer.schedule=plateau",
            "config.optimizer.schedule_options.window = 100: with patience = 5 .* run has only 4",
        ),
        ("model.options.std=(1.0,2.0)", "config.model: plain_unet with these options cannot take images .*32, 32, 3"),
    ],
)
def test_an_error_that_depends_on_the_data_names_its_key_and_creates_no_workdir(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(tiny(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_splits_with_different_classes_are_refused(run, monkeypatch):
    renamed = dataclasses.replace(run.data.evaluation, class_names=("a", "b", "c", "d", "e"))
    monkeypatch.setattr(
        data_builder, "open_dataset", lambda name, split, **_: run.data.train if split == "train" else renamed
    )
    with pytest.raises(DataError, match="the splits differ in their classes"):
        build(tiny())


def test_a_dataset_of_one_class_is_refused(run, monkeypatch):
    alone = dataclasses.replace(run.data.train, num_classes=1, class_names=("all",), palette=((0, 0, 0),))
    monkeypatch.setattr(data_builder, "open_dataset", lambda *_, **__: alone)
    with pytest.raises(DataError, match="the dataset has one class, 'all'"):
        build(tiny())


@pytest.mark.parametrize(("batch_size", "warned"), [(16, False), (24, True)])
def test_a_batch_larger_than_the_training_set_is_warned_about(batch_size, warned, capsys):
    config = tiny(f"train.batch_size={batch_size}")
    build_data(config, build_mesh(config))
    error = capsys.readouterr().err
    assert ("but the training set has 16 examples, so every batch repeats some" in error) == warned
    assert (f"config.train.batch_size = {batch_size}" in error) == warned


def test_lists_that_are_not_used_are_warned_about(run, monkeypatch, capsys):
    selection = Selection("all but 4 held out at random", "lists/{split}.txt")
    random = dataclasses.replace(run.data.train, selection=selection)
    monkeypatch.setattr(data_builder, "open_dataset", lambda *_, **__: random)
    build_data(tiny(), build_mesh(tiny()))
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert warning.startswith("warning: the files are divided into train and val at random, and the lists lists/train")
    assert warning.endswith("On the command line, add --config.data.options.split_list='lists/{split}.txt'")


@pytest.mark.parametrize("key", ["train.batch_size", "eval.batch_size"])
def test_a_batch_that_exceeds_the_free_memory_names_its_key(key, monkeypatch):
    config = tiny(f"{key}=4096")
    monkeypatch.setattr(memory, "available_memory", lambda: 4095 * 32 * 32 * 3)
    with pytest.raises(ConfigError, match=rf"^config.{key} = 4096: the images of one batch, 32x32x3 uint8 each"):
        build_data(config, build_mesh(config))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DataError("x", options={"size": 8, "count": 4}, splits=("test",)),
         "x\nOn the command line, add --config.data.options.size=8 --config.data.options.count=4"),
        (DataError("x", options={"images": "."}),
         "x\nOn the command line, use --config=folder --config.data.options.images=."),
        (DataError("x", splits=("train", "valid")), "x\nOn the command line, add --config.data.eval_split=valid"),
        (UnknownColors("x", counts={(1, 2, 3): 4}), "x\n`flaxseg inspect`, with the same arguments"),
        (DataError("x"), "x"),
    ],
)  # fmt: skip
def test_errors_of_the_data_say_what_to_do_on_the_command_line(error, says, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(data_builder, "open_dataset", fail)
    with pytest.raises(DataError) as caught:
        build(tiny())
    assert str(caught.value).startswith(says) and str(caught.value).count("\n") == says.count("\n")


def test_a_training_set_of_one_class_beside_ignored_pixels_is_refused_with_the_values_to_set(monkeypatch):
    image = np.zeros((2, 2, 3), np.uint8)
    example = {"image": image, "label": np.array([[0, 255], [255, 255]], np.uint8), "id": "a"}
    cells = SegmentationDataset(ListSource([example]), 2, ("0", "1"), ((0, 0, 0), (1, 1, 1)))
    monkeypatch.setattr(data_builder, "open_dataset", lambda *_, **__: cells)
    config = tiny("data.name=folder", "data.dir=cells", "data.options={}", "data.options.values=(0,1)")
    with pytest.raises(DataError, match="^only the class 0 occurs in the masks to train on, and 75.0%") as caught:
        build_data(config, build_mesh(config))
    assert str(caught.value).endswith("\nOn the command line, add --config.data.options.values='(0,255)'")


def test_an_evaluation_split_without_masks_may_be_left_out(run, monkeypatch):
    def open_dataset(name, split, **_):
        if split == "test":
            raise MissingMasks("no masks")
        return run.data.train

    monkeypatch.setattr(data_builder, "open_dataset", open_dataset)
    with pytest.raises(DataError, match="no masks\nTo train without evaluation, add --config.data.eval_split=$"):
        build(tiny())
    data = build(tiny("data.eval_split=")).data
    assert (data.evaluation, data.eval_batches, [*data.splits]) == (None, (), ["train"])
