"""The pure step: gradient descent, averages, placement over devices, and one compilation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flaxseg import (
    StepOptions,
    compiler_options,
    create_train_state,
    eval_step,
    make_augment,
    predict_label,
    predict_logits,
    train_step,
    weighted_sum,
)
from flaxseg.errors import ArgumentError
from flaxseg.inference.forward import normalize
from flaxseg.models import plain_unet
from flaxseg.train import sharding
from flaxseg.train.partitioner import partition_safely

KEY = jax.random.key(0)
LOSS = weighted_sum({"cross_entropy": 1.0})


class Linear(nn.Module):
    """Logits from one matrix, so that a step can be followed by hand."""

    num_classes: int = 2
    mean: float = 100.0
    std: float = 50.0

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.num_classes, use_bias=False, kernel_init=nn.initializers.zeros, name="head")(x)


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(7), 2)
    label = jax.random.randint(keys[1], (8, 16, 16), 0, 3).astype(jnp.uint8)
    return {
        "image": jax.random.randint(keys[0], (8, 16, 16, 3), 0, 256).astype(jnp.uint8),
        "label": label.at[:, :3].set(255),
    }


def new_state(model, tx, image, **options):
    """Returns the initial state of a network, made by one compiled program."""
    return jax.jit(partial(create_train_state, model=model, tx=tx, **options))(KEY, image)


def compiled_step(model, tx, loss_fn=LOSS, **options):
    step = jax.jit(partial(train_step, model=model, loss_fn=loss_fn, tx=tx, **options))
    return lambda state, batch: step(state, batch, KEY)


def test_one_step_by_hand():
    # Two pixels of value 150, so 1 after normalization; zero weights give p = 1/2; the gradient is p - target.
    batch = {"image": jnp.full((1, 1, 2, 1), 150, jnp.uint8), "label": jnp.array([[[0, 1]]], jnp.uint8)}
    batch["label"] = batch["label"].at[0, 0, 1].set(255)
    model, tx = Linear(), optax.sgd(0.1)
    new, metrics = compiled_step(model, tx)(new_state(model, tx, batch["image"]), batch)
    np.testing.assert_allclose(new.params["head"]["kernel"], [[0.05, -0.05]], rtol=1e-6)
    scalars = metrics.compute()
    assert scalars["loss"] == pytest.approx(np.log(2), rel=1e-6)
    assert scalars["loss/cross_entropy"] == pytest.approx(np.log(2), rel=1e-6)
    assert scalars["grad_norm"] == pytest.approx(np.sqrt(0.5), rel=1e-6)
    assert int(new.step) == 1


class WithAuxiliaryHead(Linear):
    """Sows further logits, which only the auxiliary loss sees."""

    @nn.compact
    def __call__(self, x, *, train):
        side = nn.Dense(self.num_classes, use_bias=False, kernel_init=nn.initializers.zeros, name="side")(x)
        self.sow("auxiliary", "logits", side)
        return super().__call__(x, train=train)


def test_the_loss_of_auxiliary_heads_is_weighted_and_added():
    batch = {"image": jnp.full((1, 1, 1, 1), 150, jnp.uint8), "label": jnp.zeros((1, 1, 1), jnp.uint8)}
    model, tx = WithAuxiliaryHead(), optax.sgd(0.1)
    state = new_state(model, tx, batch["image"])
    assert set(state.params) == {"head", "side"}
    loss_fn = weighted_sum({"cross_entropy": 1.0}, auxiliary_weight=0.5)
    new, metrics = compiled_step(model, tx, loss_fn)(state, batch)
    np.testing.assert_allclose(new.params["head"]["kernel"], [[0.05, -0.05]], rtol=1e-6)
    np.testing.assert_allclose(new.params["side"]["kernel"], [[0.025, -0.025]], rtol=1e-6)
    scalars = metrics.compute()
    assert scalars["loss"] == pytest.approx(1.5 * np.log(2), rel=1e-6)
    assert scalars["loss/auxiliary"] == pytest.approx(np.log(2), rel=1e-6)
    assert predict_label(new, batch["image"], model=model).shape == (1, 1, 1)


def test_a_state_starts_from_given_variables():
    given = {"params": {"head": {"kernel": jnp.array([[3.0, 4.0]])}}}
    image = jnp.zeros((1, 1, 1, 1), jnp.uint8)
    state = create_train_state(
        KEY, image, model=Linear(), tx=optax.sgd(0.1), options=StepOptions(ema_decay=0.9), variables=given
    )
    for params in (state.params, state.ema_params):
        assert params["head"]["kernel"].tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(("channels", "expected"), [(3, [4, 1.5, 1]), (1, [11 / 6.5]), (5, [4, 1.5, 1, 4, 1.5])])
def test_rgb_mean_and_std_apply_to_any_number_of_channels(channels, expected):
    model = Linear(mean=(10.0, 20.0, 21.0), std=(2.5, 4.0, 13.0))
    image = jnp.asarray([20, 26, 34, 20, 26][:channels], jnp.uint8).reshape(1, 1, 1, channels)
    image = jnp.full_like(image, 28) if channels == 1 else image
    np.testing.assert_allclose(normalize(image, model)[0, 0, 0], expected, rtol=1e-6)


def test_moving_average_by_hand():
    batch = {"image": jnp.full((1, 1, 1, 1), 150, jnp.uint8), "label": jnp.zeros((1, 1, 1), jnp.uint8)}
    model, tx, options = Linear(), optax.sgd(0.1), StepOptions(ema_decay=0.15)
    state, take_step = new_state(model, tx, batch["image"], options=options), compiled_step(model, tx, options=options)
    average = np.zeros((1, 2))
    for step in range(3):
        state, _ = take_step(state, batch)
        decay = min(0.15, (1 + step) / (10 + step))  # 1/10, then 0.15: both sides of the minimum
        average = decay * average + (1 - decay) * np.asarray(state.params["head"]["kernel"])
        np.testing.assert_allclose(state.ema_params["head"]["kernel"], average, rtol=1e-5)


def test_state_and_step_need_the_same_moving_average():
    batch = {"image": jnp.zeros((1, 1, 1, 1), jnp.uint8), "label": jnp.zeros((1, 1, 1), jnp.uint8)}
    model, tx = Linear(), optax.sgd(0.1)
    state = create_train_state(KEY, batch["image"], model=model, tx=tx)
    with pytest.raises(ArgumentError, match="options.ema_decay = 0.9: give create_train_state and train_step the same"):
        train_step(state, batch, KEY, model=model, loss_fn=LOSS, tx=tx, options=StepOptions(ema_decay=0.9))


def test_metrics_merge_as_averages_over_steps(batch):
    model, tx = Linear(num_classes=3), optax.sgd(0.5)
    step = compiled_step(model, tx)
    state, first = step(new_state(model, tx, batch["image"]), batch)
    _, second = step(state, batch)
    losses = [m.compute()["loss"] for m in (first, second)]
    assert losses[0] != losses[1]
    assert first.merge(second).compute()["loss"] == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.fixture(scope="module")
def network(batch):
    """Returns a small U-Net with everything random enabled, a function for its initial state, and its step."""
    options = StepOptions(ema_decay=0.9)
    model = plain_unet(num_classes=3, width=4, depth=1, decoder_dropout=0.2)
    tx = optax.adamw(3e-3)
    augment_fn = make_augment(crop_size=(16, 16), scale=(0.9, 1.2), flip=0.5, brightness=0.1)
    make = partial(create_train_state, image=batch["image"], model=model, tx=tx, options=options)
    step = partial(train_step, model=model, loss_fn=LOSS, tx=tx, augment_fn=augment_fn, options=options)
    return model, make, step


@pytest.fixture(scope="module")
def state(network):
    """Returns the network's initial state."""
    return jax.jit(network[1])(KEY)


def on_devices(network, batch, **parts):
    """Takes three steps and evaluates on a mesh; returns losses, confusion matrix, parameters, step and state."""
    model, make, step = network
    mesh = sharding.make_mesh(**parts)
    placement = sharding.state_sharding(jax.eval_shape(make, KEY), mesh)
    state = jax.jit(make, out_shardings=placement)(KEY)
    model = partition_safely(model, mesh)
    compiled = jax.jit(
        partial(step, model=model), donate_argnums=0, out_shardings=(placement, sharding.replicated(mesh))
    )
    placed, losses = sharding.place_batch({k: np.asarray(v) for k, v in batch.items()}, mesh), []
    for _ in range(3):
        state, metrics = compiled(state, placed, KEY)
        losses.append(metrics.compute()["loss"])
    confusion = jax.jit(partial(eval_step, model=model))(state, placed).confusion.counts
    return losses, np.asarray(confusion), jax.device_get(state.params), compiled, state


@pytest.fixture(scope="module")
def one_device(network, batch):
    return on_devices(network, batch, data=1)


def test_loss_falls(one_device):
    losses = one_device[0]
    assert losses[2] < losses[0]


@pytest.mark.parametrize(
    "parts", [pytest.param({"data": 8}, marks=pytest.mark.long), {"replicas": 2, "fsdp": 2, "spatial": 2}]
)
def test_any_mesh_gives_the_results_of_one_device(network, batch, one_device, parts):
    losses, confusion, params, _, state = on_devices(network, batch, **parts)
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5, atol=1e-5)
    assert confusion.sum() == 8 * 13 * 16
    np.testing.assert_array_equal(confusion, one_device[1])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-2, atol=3e-4), params, one_device[2])
    if "fsdp" in parts:
        kernel = state.params["encoder"]["level1"]["block1"]["conv"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 2
        moment = state.opt_state[0].mu["encoder"]["level1"]["block1"]["conv"]["kernel"]
        assert moment.addressable_shards[0].data.size == moment.size // 2


def test_the_step_compiles_once(one_device):
    assert one_device[3]._cache_size() == 1


def test_a_step_keeps_only_the_gradient_and_the_update_beside_the_state():
    parts = {"model": plain_unet(num_classes=2, width=32, depth=3), "tx": optax.adamw(0.1)}
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((1, 8, 8), jnp.uint8)}
    state = jax.eval_shape(partial(create_train_state, **parts), jax.random.key(0), image)
    step = partial(train_step, loss_fn=weighted_sum({"cross_entropy": 1.0}), **parts)
    lowered = jax.jit(step, donate_argnums=0).lower(state, batch, jax.eval_shape(lambda: jax.random.key(0)))
    program = lowered.compile(compiler_options=compiler_options())
    parameters = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
    assert program.memory_analysis().temp_size_in_bytes < 2.1 * parameters


def test_random_draws_differ_between_steps_and_repeat_exactly(network, state, batch):
    jitted = jax.jit(network[2])
    first, again = (jax.device_get(jitted(state, batch, KEY)[1].loss.total) for _ in range(2))
    assert first == again
    later = jax.device_get(jitted(state.replace(step=jnp.int32(5)), batch, KEY)[1].loss.total)
    assert first != later


def test_evaluation_uses_the_moving_average_and_takes_any_size(network, state, batch):
    predict = jax.jit(partial(predict_label, model=network[0]))
    other = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    np.testing.assert_array_equal(predict(state, batch["image"]), predict(other, batch["image"]))
    assert jax.eval_shape(predict, state, batch["image"][:, :11, :13]).shape == (8, 11, 13)


def test_labels_of_another_size_are_scored_at_their_own_size(network, state, batch):
    label = np.full((8, 40, 32), 255, np.uint8)
    sizes = np.array([(20 + 2 * i, 32 - 3 * i) for i in range(8)], np.int32)
    for i, (height, width) in enumerate(sizes):
        label[i, :height, :width] = i % 3
    native = {"image": batch["image"], "label": jnp.asarray(label), "size": jnp.asarray(sizes)}
    counts = np.asarray(jax.jit(partial(eval_step, model=network[0]))(state, native).confusion.counts)
    assert counts.sum() == sizes.prod(1).sum()
    logits = jax.jit(partial(predict_logits, model=network[0]))(state, batch["image"])
    expected = np.zeros((3, 3), int)
    for i, (height, width) in enumerate(sizes):
        resized = jax.image.resize(logits[i], (height, width, 3), "bilinear", antialias=False)
        np.add.at(expected, (i % 3, np.asarray(resized.argmax(-1)).ravel()), 1)
    assert np.abs(counts - expected).sum() <= 4  # pixels whose two best logits are equal up to rounding
