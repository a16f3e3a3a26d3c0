"""The lines about data, checkpoints and warm-up of a run, and the hyper-parameters that TensorBoard shows first."""

import dataclasses
import types

import jax
import made_datasets
import numpy as np
import pytest
from saved_run import DESCRIPTION

from flaxseg.config.files import load_config
from flaxseg.data.types import Selection
from flaxseg.train.build import build_loop, build_mesh
from flaxseg.train.describe import (
    checkpoint_sizes,
    describe_data,
    describe_steps,
    describe_warmup,
    hyper_parameters,
    precision_warning,
)


def test_the_line_about_the_data_says_where_the_images_to_evaluate_on_come_from():
    image = made_datasets.example([[0, 1]])
    train, evaluation = made_datasets.dataset(image, image, image, classes=2), made_datasets.dataset(image, classes=2)
    classes = "2 classes (class 0, class 1)"
    assert describe_data("pets", train, None) == f"pets: 3 images to train on, no evaluation, {classes}"
    assert describe_data("pets", train, evaluation) == f"pets: 3 images to train on, 1 to evaluate on, {classes}"
    selected = dataclasses.replace(evaluation, selection=Selection("from lists/val.txt"))
    assert describe_data("pets", train, selected) == (
        f"pets: 3 images to train on, 1 to evaluate on, from lists/val.txt, {classes}"
    )


def test_the_room_that_checkpoints_take_is_that_of_the_state():
    shapes = {"params": jax.ShapeDtypeStruct((1024, 256), np.float32), "step": jax.ShapeDtypeStruct((), np.int32)}
    assert checkpoint_sizes(shapes, keep=2) == ["checkpoints: about 1.0 MiB each, at most 3 of them"]
    assert checkpoint_sizes(shapes, keep=0) == []


@pytest.mark.parametrize(
    ("steps", "schedule", "said"),
    [
        (100, "cosine", ", a warm-up of 50 steps"),
        (99, "cosine", ", a warm-up of 9 steps (optimizer.warmup_steps = 50 is more than half of the run)"),
        (19, "cosine", ", a warm-up of 1 step (optimizer.warmup_steps = 50 is more than half of the run)"),
        (6, "cosine", ", no warm-up (optimizer.warmup_steps = 50 is more than half of the run)"),
        (
            100,
            "one_cycle",
            ", no warm-up (optimizer.warmup_steps = 50 has no effect, because optimizer.schedule = one_cycle begins "
            "with a rise)",
        ),
    ],
)
def test_the_warm_up_is_part_of_what_is_about_to_run(steps, schedule, said):
    settings = load_config("shapes", ["optimizer.warmup_steps=50", f"optimizer.schedule={schedule}"]).optimizer
    assert describe_warmup(settings, steps) == said


def test_a_run_without_warm_up_does_not_mention_it():
    for schedule in ("cosine", "one_cycle"):
        settings = load_config("shapes", ["optimizer.warmup_steps=0", f"optimizer.schedule={schedule}"]).optimizer
        assert describe_warmup(settings, 100) == ""


def test_bfloat16_on_a_cpu_is_warned_about():
    assert precision_warning("bfloat16", "cpu").endswith("takes longer than 'float32' on most CPUs; use 'float32' here")
    assert [precision_warning(*each) for each in (("float32", "cpu"), ("bfloat16", "gpu"))] == ["", ""]


def test_an_evaluation_after_the_last_step_only_is_said_to_be_at_the_end():
    def said(*overrides):
        config = load_config("shapes", ["train.steps=60", "optimizer.warmup_steps=0", *overrides])
        loop = build_loop(config, build_mesh(config), num_examples=16)
        run = types.SimpleNamespace(loop=loop)
        return describe_steps(run, 0, optimizer=config.optimizer, stops_early=False).partition("batches of 16, ")[2]

    assert said("eval.every=20") == "an evaluation every 20 steps"
    assert said("eval.every=350") == "an evaluation at the end"
    assert said("eval.every=60", "data.eval_split=") == "a checkpoint at the end"


def test_changed_keys_of_learning_are_shown_and_those_of_callbacks_are_not():
    overrides = ["optimizer.grad_clip=1.0", "train.callbacks=('wandb',)", "train.callback_options.wandb.project=pets"]
    base = load_config("shapes", [])
    before, found = (hyper_parameters(config, DESCRIPTION) for config in (base, load_config("shapes", overrides)))
    assert set(found.first) - set(before.first) == {"optimizer.grad_clip"}
    assert found.values["train.callback_options.wandb.project"] == "pets"
