"""Batches of the wrong form: one message each, from the loss, the step and the metrics, while they are traced."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import ConfusionMatrix, create_train_state, eval_step, plain_unet, predict_logits, train_step, weighted_sum
from flaxseg.errors import ArgumentError
from flaxseg.losses import LOSSES
from flaxseg.metrics import METRICS
from flaxseg.train.loss_value import loss_value

KEY = jax.random.key(0)


def array(*shape, dtype=np.int32):
    return jax.ShapeDtypeStruct(shape, dtype)


def message(function, *args, **kwargs):
    """Returns the message of the ArgumentError that a function raises while it is traced."""
    with pytest.raises(ArgumentError) as caught:
        jax.eval_shape(partial(function, **kwargs), *args)
    return str(caught.value)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_refuses_labels_that_it_would_broadcast(name):
    found = message(LOSSES[name], array(1, 8, 8, 2, dtype=np.float32), array(1, 8, 8, 1))
    assert found == (
        "label int32[1, 8, 8, 1]: must have the shape of the logits without the classes, [1, 8, 8]; use label[..., 0]"
    )


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        (array(2, 1, 8, 6), "use label[:, 0]"),
        (array(2, 8, 6, 3), "use label.argmax(-1) of one-hot labels"),
        (array(2, 8, 6, 3, dtype=np.float32), "use label.argmax(-1) of one-hot labels"),
        (array(2, 3, 8, 6), "use label.argmax(1) of one-hot labels"),
        (array(2, 8, 6, dtype=np.float32), "must be integers, class indices; use label.astype(int)"),
        (array(2, 8, 7), "classes, [2, 8, 6]"),
    ],
)
def test_labels_of_other_libraries_have_a_remedy(label, remedy):
    found = message(LOSSES["dice"], array(2, 8, 6, 3, dtype=np.float32), label)
    assert found.startswith(f"label {label.dtype}{list(label.shape)}: ")
    assert found.endswith(remedy)


def test_remedies_convert_labels():
    label = np.random.default_rng(0).integers(0, 3, (2, 8, 6))
    logits = np.random.default_rng(1).normal(size=(2, 8, 6, 3)).astype(np.float32)
    loss = jax.jit(partial(LOSSES["dice"], logits))
    one_hot = np.eye(3)[label]
    found = [loss(x) for x in (label[..., None][..., 0], label[:, None][:, 0], one_hot.argmax(-1))]
    assert [float(x) for x in found] == [float(loss(label))] * 3
    assert message(LOSSES["dice"], jnp.moveaxis(logits, -1, 1), label) == (
        "logits float32[2, 3, 8, 6]: must have the classes in the last axis; use jnp.moveaxis(logits, 1, -1)"
    )


def test_a_sum_of_losses_names_the_label_and_no_option():
    loss_fn = weighted_sum({"dice": 1.0}, class_weights=(1.0, 2.0, 3.0))
    logits = array(2, 8, 6, 3, dtype=np.float32)
    assert message(loss_fn, logits, array(2, 8, 6, 1)).startswith("label int32[2, 8, 6, 1]: ")
    assert message(loss_fn, array(2, 3, 8, 6, dtype=np.float32), array(2, 8, 6)).startswith(
        "logits float32[2, 3, 8, 6]"
    )
    assert message(loss_fn, array(2, 8, 6, 4, dtype=np.float32), array(2, 8, 6)).startswith("class_weights = ")


@pytest.mark.parametrize("metric", [ConfusionMatrix, *METRICS.values()], ids=["confusion", *METRICS])
def test_every_metric_refuses_labels_of_another_shape(metric):
    output = {"prediction": array(1, 8, 8), "logits": array(1, 8, 8, 3, dtype=np.float32), "label": array(1, 8, 8, 1)}
    measure = lambda output: metric.from_model_output(**output, num_classes=3)  # noqa: E731
    assert message(measure, output).endswith("[1, 8, 8]; use label[..., 0]")


@pytest.fixture(scope="module")
def parts():
    return {"model": plain_unet(num_classes=2, width=2, depth=1), "tx": optax.sgd(0.1)}


@pytest.fixture(scope="module")
def state(parts):
    return jax.eval_shape(partial(create_train_state, **parts), KEY, array(2, 8, 8, 3, dtype=np.uint8))


IMAGE, LABEL = array(2, 8, 8, 3, dtype=np.uint8), array(2, 8, 8)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (
            {"image": IMAGE, "mask": LABEL},
            "batch with the keys image, mask: label is missing; rename 'mask' to 'label'",
        ),
        ({"image": IMAGE}, "batch with the keys image: label is missing"),
        (
            {"images": IMAGE, "labels": LABEL},
            "batch with the keys images, labels: image and label are missing; "
            "rename 'images' to 'image', 'labels' to 'label'",
        ),
        ((IMAGE, LABEL), "batch of type tuple: must be a dict with the keys image and label"),
        (
            {"image": array(2, 8, 8, 4), "label": LABEL},
            "image int32[2, 8, 8, 4]: the network was made for 3 channels; create its state with images like these",
        ),
        (
            {"image": array(2, 3, 8, 8), "label": LABEL},
            "image int32[2, 3, 8, 8]: the network was made for 3 channels in the last axis; "
            "use image.transpose(0, 2, 3, 1)",
        ),
        (
            {"image": array(8, 8, 3), "label": LABEL},
            "image int32[8, 8, 3]: must be [B, H, W, C]; use image[None] for a single image",
        ),
        (
            {"image": IMAGE, "label": array(2, 1, 8, 8)},
            "label int32[2, 1, 8, 8]: must have the shape of the logits without the classes, [2, 8, 8]; "
            "use label[:, 0]",
        ),
    ],
)
def test_steps_name_what_is_wrong_with_a_batch(batch, expected, state, parts):
    loss_fn = weighted_sum({"dice": 1.0})
    assert message(partial(train_step, loss_fn=loss_fn, **parts), state, batch, KEY) == expected
    assert message(partial(eval_step, model=parts["model"]), state, batch) == expected


def test_predictions_and_new_states_check_images_too(state, parts):
    predict = partial(predict_logits, model=parts["model"])
    assert "made for 3 channels" in message(predict, state, array(1, 8, 8, 1))
    assert "use image[None]" in message(partial(create_train_state, **parts), KEY, array(8, 8, 3))
    four = {"model": plain_unet(num_classes=2, width=2, depth=1, mean=(1, 2, 3, 4)), "tx": parts["tx"]}
    assert "made for 4 channels" in message(partial(predict_logits, model=four["model"]), state, array(1, 8, 8, 3))


def test_other_differences_of_parameters_keep_their_error(state):
    wider = plain_unet(num_classes=2, width=4, depth=1)
    with pytest.raises(Exception, match="existing parameter"):
        jax.eval_shape(partial(predict_logits, model=wider), state, IMAGE)


def brier(logits, label):
    """A loss of a user's own, which would broadcast labels [B, 1, H, W] against all images of the batch."""
    valid = label != 255
    error = jnp.square(jax.nn.softmax(logits) - jax.nn.one_hot(label, logits.shape[-1])).sum(-1)
    return jnp.where(valid, error, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def own_total(logits, label):
    loss = brier(logits, label)
    return loss, {"brier": loss}


WRONG_LABELS = [
    (array(2, 1, 8, 8), "use label[:, 0]"),
    (array(2, 8, 8, 1), "use label[..., 0]"),
    (array(2, 8, 8, 2), "use label.argmax(-1) of one-hot labels"),
    (array(2, 8, 8, 2, dtype=np.float32), "use label.argmax(-1) of one-hot labels"),
    (array(2, 2, 8, 8), "use label.argmax(1) of one-hot labels"),
    (array(2, 16, 16), "must have the shape of the logits without the classes, [2, 8, 8]"),
    (array(2, 8, 8, dtype=np.float32), "must be integers, class indices; use label.astype(int)"),
]


@pytest.mark.parametrize(("label", "remedy"), WRONG_LABELS)
def test_the_step_refuses_labels_that_do_not_fit_whatever_the_loss(state, parts, label, remedy):
    batch = {"image": IMAGE, "label": label}
    messages = {
        message(train_step, state, batch, KEY, **parts, loss_fn=loss_fn)
        for loss_fn in (own_total, weighted_sum({brier: 1.0}), weighted_sum({"dice": 1.0}))
    } | {
        message(eval_step, state, batch, model=parts["model"]),
        message(weighted_sum({brier: 1.0}), array(2, 8, 8, 2, dtype=np.float32), label),
    }
    assert len(messages) == 1
    found = messages.pop()
    assert found.startswith(f"label {np.dtype(label.dtype).name}{list(label.shape)}: ") and found.endswith(remedy)


def test_labels_at_native_resolution_are_of_another_size_than_the_image(state, parts):
    batch = {"image": IMAGE, "label": array(2, 16, 12), "size": array(2, 2)}
    counts = jax.eval_shape(partial(eval_step, model=parts["model"]), state, batch).confusion.counts
    assert counts.shape == (2, 2)
    for shape in ((2, 1, 16, 12), (2, 16, 12, 1)):
        found = message(eval_step, state, {**batch, "label": array(*shape)}, model=parts["model"])
        assert found.startswith(f"label int32{list(shape)}: must have the shape of the logits")


def test_labels_must_fit_the_logits_of_auxiliary_heads():
    logits, head = array(2, 8, 8, 3, dtype=np.float32), array(2, 4, 4, 3, dtype=np.float32)
    found = message(weighted_sum({brier: 1.0}), logits, array(2, 8, 8), head)
    assert found == "label int32[2, 8, 8]: must have the shape of the logits without the classes, [2, 4, 4]"


@pytest.mark.parametrize(
    ("loss_fn", "problem"),
    [
        (brier, "returned float32[], but must return (total, parts), a scalar and a dict of scalars; write "
         "loss_fn=weighted_sum({brier: 1.0}) for a function that returns a scalar"),
        (["dice", brier], "must be a function; write loss_fn=weighted_sum({'dice': 1.0, brier: 1.0})"),
        ("dice", "must be a function; write loss_fn=weighted_sum({'dice': 1.0})"),
        ({"dice": 0.5}, "must be a function; write loss_fn=weighted_sum({'dice': 0.5})"),
        (lambda logits, label: (logits.mean(-1), {}),
         "the total is float32[2, 8, 8], but must be a scalar; take its mean"),
        (lambda logits, label: (logits.mean(), {"own": logits}),
         "parts['own'] is float32[2, 8, 8, 2], but must be a scalar; take its mean"),
    ],
    ids=["scalar", "list", "name", "weights", "map", "part"],
)  # fmt: skip
def test_the_step_says_what_a_loss_must_return(state, parts, loss_fn, problem):
    found = message(train_step, state, {"image": IMAGE, "label": LABEL}, KEY, **parts, loss_fn=loss_fn)
    assert found.startswith("loss_fn = ") and found.endswith(f": {problem}")


def test_a_loss_has_to_take_the_logits_of_auxiliary_heads():
    logits, label = array(2, 8, 8, 3, dtype=np.float32), array(2, 8, 8)
    found = message(lambda *heads: loss_value(own_total, *heads), logits, label, [logits, logits])
    assert "cannot be called with logits, labels and the logits of 2 auxiliary heads (too many positional" in found
    assert "; write loss_fn=weighted_sum({own_total: 1.0}) for a function of" in found
    total, parts = jax.eval_shape(
        lambda *heads: loss_value(weighted_sum({brier: 1.0}), *heads), logits, label, [logits]
    )
    assert total.shape == () and sorted(parts) == ["auxiliary", "brier"]


def test_a_loss_of_the_users_own_is_trained_on():
    """Its value and its gradient, by hand: one pixel of p = (1/2, 1/2) has an error of 1/4 + 1/4."""
    logits, label = jnp.zeros((1, 1, 2, 2)), jnp.array([[[1, 255]]], jnp.uint8)
    (total, found), gradient = jax.value_and_grad(weighted_sum({brier: 3.0}), has_aux=True)(logits, label)
    assert (float(total), {name: float(part) for name, part in found.items()}) == (1.5, {"brier": 0.5})
    # 3 * d/dx0 ((p0)^2 + (p1 - 1)^2) = 3 * 4 p0 * p0 p1.
    np.testing.assert_allclose(gradient[0, 0], [[1.5, -1.5], [0, 0]], atol=1e-6)
