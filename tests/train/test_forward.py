"""The forward pass in training: in parts as in one, and frozen modules as in inference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flaxseg import create_train_state, freezing, train_step, unet, weighted_sum
from flaxseg.train import sharding
from flaxseg.train.forward import training_logits

KEY = jax.random.key(0)
# Neither is a mean over pixels of each part: ignored pixels lie unevenly, and Dice divides sums of the whole batch.
LOSS = weighted_sum({"cross_entropy": 1.0, "dice": 1.0})


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(3), 2)
    label = jax.random.randint(keys[1], (8, 16, 16), 0, 3).astype(jnp.uint8)
    return {
        "image": jax.random.randint(keys[0], (8, 16, 16, 3), 0, 256).astype(jnp.uint8),
        "label": jnp.where(jnp.arange(16)[:, None] < 2 * jnp.arange(8)[:, None, None], 255, label).astype(jnp.uint8),
    }


def one_step(model, batch, mesh=None, **options):
    tx = optax.sgd(0.1)
    state = jax.jit(partial(create_train_state, model=model, tx=tx))(KEY, batch["image"])
    if mesh is not None:
        batch = sharding.place_batch(jax.tree.map(np.asarray, batch), mesh)
    step = jax.jit(partial(train_step, model=model, loss_fn=LOSS, tx=tx, **options))
    new, metrics = step(state, batch, KEY)
    return jax.device_get(new), metrics.compute()


def difference(a, b):
    """The largest difference of two trees, relative to the largest value of the first."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(a))
    return max(np.abs(x - y).max() for x, y in pairs) / largest


@pytest.fixture(scope="module")
def without_batch_norm(batch):
    model = unet(num_classes=3, width=4, depth=2, norm="group")
    return model, one_step(model, batch)


@pytest.mark.parametrize(("parts", "devices"), [(2, 1), (8, 1), (2, 4)])
def test_in_parts_a_step_is_that_of_the_whole_batch(batch, without_batch_norm, parts, devices):
    model, (whole, metrics) = without_batch_norm
    mesh = sharding.make_mesh(data=devices) if devices > 1 else None
    new, found = one_step(model, batch, mesh, accumulate_steps=parts)
    assert difference(whole.params, new.params) < 1e-5
    assert found == pytest.approx(metrics, rel=1e-5)


def test_with_batch_norm_the_parts_have_statistics_of_their_own(batch):
    """What differs is stated: each part is normalized by itself, and the running averages move once for each."""
    model = unet(num_classes=3, width=4, depth=1)
    whole, metrics = one_step(model, batch)
    new, found = one_step(model, batch, accumulate_steps=4)
    assert found["loss"] == pytest.approx(metrics["loss"], rel=0.05)
    assert 1e-3 < difference(whole.params, new.params) < 0.1
    means = [jax.tree.leaves(state.batch_stats)[0] for state in (whole, new)]
    # The first layer sees the same pictures: 4 moves of 0.1 towards means that average to the whole's.
    np.testing.assert_allclose(means[1], means[0] / 0.1 * (1 - 0.9**4), rtol=0.2, atol=1e-3)


class OwnNorm(nn.BatchNorm):
    """A subclass, as networks of a user's own may have."""


class TwoLayers(nn.Module):
    """Flax's own layers twice: told to train by their fields, or where they are called, by position."""

    by_fields: bool
    mean: float = 0.0
    std: float = 1.0

    @nn.compact
    def __call__(self, x, *, train):
        for name in ("encoder", "head"):
            x = nn.Conv(3, (1, 1), name=f"{name}_conv")(x)
            if self.by_fields:
                x = nn.BatchNorm(use_running_average=not train, name=f"{name}_norm")(x)
                x = nn.Dropout(0.5, deterministic=not train, name=f"{name}_dropout")(x)
            else:
                x = OwnNorm(name=f"{name}_norm")(x, not train)
                x = nn.Dropout(0.5, name=f"{name}_dropout")(x, not train)
        return x


@pytest.mark.parametrize("by_fields", [True, False])
def test_a_frozen_module_is_as_in_inference_and_the_others_as_in_training(by_fields):
    image, model = jax.random.uniform(KEY, (2, 4, 4, 3), maxval=9), TwoLayers(by_fields)
    variables = model.init(KEY, image, train=False)
    run = partial(training_logits, variables, image, KEY, model=model)
    logits, side, statistics = run(frozen=freezing(["encoder_.*"]))
    assert side == []
    np.testing.assert_array_equal(statistics["encoder_norm"]["mean"], variables["batch_stats"]["encoder_norm"]["mean"])
    assert np.any(statistics["head_norm"]["mean"] != variables["batch_stats"]["head_norm"]["mean"])
    assert np.any(logits == 0), "the head's dropout is on"
    everything, _, _ = run(frozen=freezing([".*"]))
    np.testing.assert_allclose(everything, model.apply(variables, image, train=False), rtol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_a_frozen_encoder_stays_as_it_is_to_the_last_bit(batch, remat):
    model = unet(num_classes=3, encoder="resnet18", encoder_depth=3, decoder_channels=(8, 8, 8), remat=remat)
    tx, frozen = optax.adamw(0.1, weight_decay=0.5), freezing(["encoder"])
    state = jax.jit(partial(create_train_state, model=model, tx=tx, frozen=frozen))(KEY, batch["image"])
    assert set(state.opt_state[0].mu) == {"decoder", "head"}
    new, _ = jax.jit(partial(train_step, model=model, loss_fn=LOSS, tx=tx, frozen=frozen))(state, batch, KEY)
    for before, after in ((state.params, new.params), (state.batch_stats, new.batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, before["encoder"], after["encoder"])
        changed = jax.tree.map(lambda x, y: bool((x != y).any()), before["decoder"], after["decoder"])
        assert all(jax.tree.leaves(changed))


def test_what_does_not_fit_is_told(batch):
    model, tx = unet(num_classes=3, width=4, depth=1), optax.adamw(0.1)
    state = jax.eval_shape(partial(create_train_state, model=model, tx=tx), KEY, batch["image"])
    for options, message in (
        ({"frozen": freezing("encoder")}, "tx and frozen must be given to create_train_state.. and train_step.. alike"),
        ({"accumulate_steps": 3}, "accumulate_steps = 3: does not divide the batch of 8"),
        ({"hardest": 2}, r"hardest needs batch\['index'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(partial(train_step, model=model, loss_fn=LOSS, tx=tx, **options), state, batch, KEY)
