"""The training examples with the largest loss: of one batch by hand, merged over batches, and from a training step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import StepOptions, create_train_state, train_step, weighted_sum
from flaxseg.models import plain_unet
from flaxseg.train import sharding
from flaxseg.train.hard_examples import HARDEST, HardExamples, hardest_examples

LOSS = weighted_sum({"cross_entropy": 1.0, "lovasz_softmax": 1.0})


def hard_examples(loss, index):
    return HardExamples(np.float32(loss), np.int32(index))


def test_each_example_is_ranked_by_its_own_loss():
    logits = jax.random.normal(jax.random.key(0), (5, 4, 6, 3))
    label = jax.random.randint(jax.random.key(1), (5, 4, 6), 0, 3).at[2].set(255)
    index = jnp.array([10, 11, 12, 13, 14], jnp.int32)
    find = jax.jit(partial(HardExamples.from_model_output, loss_fn=LOSS, count=3))
    hardest, loss_fn = find(logits, {"label": label, "index": index}), jax.jit(LOSS)
    alone = {int(i): float(loss_fn(logits[n : n + 1], label[n : n + 1])[0]) for n, i in enumerate(index)}
    assert alone[12] == 0  # every pixel is ignored
    expected = sorted(alone, key=alone.get, reverse=True)[:3]
    assert hardest.index.tolist() == expected
    np.testing.assert_allclose(hardest.loss, [alone[i] for i in expected], rtol=1e-6)


def test_fewer_examples_than_requested_leave_padding_that_is_not_listed():
    batch = {"label": jnp.zeros((2, 1, 1), jnp.int32), "index": jnp.array([7, 0], jnp.int32)}
    few = jax.jit(partial(HardExamples.from_model_output, loss_fn=LOSS, count=4))(jnp.zeros((2, 1, 1, 2)), batch)
    assert [index for index, _ in few.pairs()] == [7, 0]
    assert [index for index, _ in few.merge(hard_examples([2, 1, -np.inf, -np.inf], [3, 0, 0, 0])).pairs()] == [3, 0, 7]


def test_an_example_in_both_lists_appears_once_with_its_larger_loss():
    both = hard_examples([5, 3, 1], [4, 2, 9]).merge(hard_examples([4, 3, 2], [2, 8, 7]))
    assert both.pairs() == [(4, 5.0), (2, 4.0), (8, 3.0)]
    assert hard_examples([4, 3, 2], [2, 8, 7]).merge(hard_examples([5, 3, 1], [4, 2, 9])).pairs() == both.pairs()


@pytest.mark.long
def test_a_step_lists_the_same_examples_on_any_number_of_devices():
    keys = jax.random.split(jax.random.key(2), 2)
    batch = {
        "image": np.asarray(jax.random.randint(keys[0], (8, 8, 8, 3), 0, 256), np.uint8),
        "label": np.asarray(jax.random.randint(keys[1], (8, 8, 8), 0, 3), np.uint8),
        "index": np.arange(100, 108, dtype=np.int32),
    }
    model, tx = plain_unet(num_classes=3, width=4, depth=1, norm="group"), optax.sgd(0.1)
    state = jax.jit(partial(create_train_state, model=model, tx=tx))(jax.random.key(0), batch["image"])
    options = StepOptions(metrics_fn=hardest_examples(LOSS, 2))
    step = jax.jit(partial(train_step, model=model, loss_fn=LOSS, tx=tx, options=options))
    listed = [
        jax.device_get(step(state, given, jax.random.key(1))[1].extra[HARDEST]).pairs()
        for given in (batch, sharding.place_batch(batch, sharding.make_mesh(data=8)))
    ]
    assert len(listed[0]) == 2 and {index for index, _ in listed[0]} <= set(range(100, 108))
    assert [index for index, _ in listed[0]] == [index for index, _ in listed[1]]
    np.testing.assert_allclose([loss for _, loss in listed[0]], [loss for _, loss in listed[1]], rtol=1e-5)
