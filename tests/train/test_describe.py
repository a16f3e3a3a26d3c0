"""The lines about data, checkpoints and warm-up of a run, and the hyper-parameters that TensorBoard shows first."""

import dataclasses

import jax
import made_datasets
import numpy as np
import pytest
from saved_run import DESCRIPTION

from flaxseg.config.files import load_config
from flaxseg.data.types import Selection
from flaxseg.train.describe import checkpoint_sizes, describe_data, hyper_parameters, shortened_warmup


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
    ("steps", "said"),
    [
        (100, ""),
        (99, ", a warm-up of 9 steps (optimizer.warmup_steps = 50 is more than half of the run)"),
        (19, ", a warm-up of 1 step (optimizer.warmup_steps = 50 is more than half of the run)"),
        (6, ", no warm-up (optimizer.warmup_steps = 50 is more than half of the run)"),
    ],
)
def test_a_shortened_warm_up_is_part_of_what_is_about_to_run(steps, said):
    assert shortened_warmup(50, steps) == said


def test_changed_keys_of_learning_are_shown_and_those_of_callbacks_are_not():
    overrides = ["optimizer.grad_clip=1.0", "train.callbacks=('wandb',)", "train.callback_options.wandb.project=pets"]
    base = load_config("shapes", [])
    before, found = (hyper_parameters(config, DESCRIPTION) for config in (base, load_config("shapes", overrides)))
    assert set(found.first) - set(before.first) == {"optimizer.grad_clip"}
    assert found.values["train.callback_options.wandb.project"] == "pets"
