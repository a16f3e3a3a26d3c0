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
