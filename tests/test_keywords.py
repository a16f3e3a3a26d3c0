"""Calls with arguments that do not exist: one message, with the name that is used here."""

import optax
import pytest

from flaxseg import make_optimizer
from flaxseg.data import eval_batches, folder, shapes, train_batches
from flaxseg.errors import ArgumentError


@pytest.mark.parametrize(
    ("function", "args", "keywords", "message"),
    [
        (
            make_optimizer,
            ("Adam",),
            {"lr": 1e-3},
            "lr = 0.001: make_optimizer has no such argument; use schedule, the learning rate at each step, as in "
            "schedule=make_schedule(...) or schedule=lambda step: 1e-3; arguments are name, schedule, weight_decay, "
            "grad_clip, options, multipliers, frozen",
        ),
        (
            make_optimizer,
            ("adamw", 1e-3),
            {},
            "argument 2 = 0.001: make_optimizer takes name by position; give the others by name: schedule, "
            "weight_decay, grad_clip, options, multipliers, frozen",
        ),
        (
            folder,
            ("train",),
            {"root": "DIR"},
            "root = 'DIR': folder has no such argument; use data_dir; arguments are split",
        ),
        (train_batches, (None,), {"image_size": 64}, "use canvas_size, from which augmentation cuts the images"),
        (train_batches, (None,), {"canvas_sise": 64}, "did you mean 'canvas_size'?"),
        (eval_batches, (None,), {"canvas_size": 64}, "use image_size: nothing is cut from images that are evaluated"),
        (eval_batches, (None,), {"seed": 1}, "leave it out: every example comes once, in order"),
    ],
)
def test_arguments_that_do_not_exist_are_named(function, args, keywords, message):
    with pytest.raises(ArgumentError) as caught:
        function(*args, **keywords)
    assert message in str(caught.value)
    assert str(caught.value).startswith(next(iter(keywords), "argument 2"))


def test_other_calls_are_as_they_were():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'schedule'"):
        make_optimizer("adamw")
    assert isinstance(make_optimizer("sgd", schedule=lambda step: 1e-3), optax.GradientTransformationExtraArgs)
    batches = eval_batches(shapes("test"), image_size=(8, 8), batch_size=50)
    assert batches[0]["image"].shape == (50, 8, 8, 3)
