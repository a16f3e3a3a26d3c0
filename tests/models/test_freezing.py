"""Frozen modules: no gradient and no optimizer memory for their parameters, and layers in inference mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flaxseg import create_train_state, freeze, freezing, train_step, weighted_sum, with_frozen_parameters
from flaxseg.models import unet
from flaxseg.models.rematerialization import rematerialize
from flaxseg.train.micro_batches import training_logits

KEY = jax.random.key(0)
LOSS = weighted_sum({"cross_entropy": 1.0, "dice": 1.0})


class OwnNorm(nn.BatchNorm):
    """A subclass, as a user's own network may have."""


class TwoLayers(nn.Module):
    """Flax's own layers twice, switched to training by their fields or by positional call arguments."""

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
def test_frozen_layers_are_in_inference_mode_and_the_others_in_training_mode(by_fields):
    image, model = jax.random.uniform(KEY, (2, 4, 4, 3), maxval=9), TwoLayers(by_fields)
    variables = model.init(KEY, image, train=False)
    run = partial(training_logits, variables, image, KEY)
    logits, auxiliary, statistics = run(model=freeze(model, freezing(["encoder_.*"])))
    assert auxiliary == []
    np.testing.assert_array_equal(statistics["encoder_norm"]["mean"], variables["batch_stats"]["encoder_norm"]["mean"])
    assert np.any(statistics["head_norm"]["mean"] != variables["batch_stats"]["head_norm"]["mean"])
    assert np.any(logits == 0), "the dropout of the head is active"
    everything, _, _ = run(model=freeze(model, freezing([".*"])))
    np.testing.assert_allclose(everything, model.apply(variables, image, train=False), rtol=1e-6)


@pytest.mark.parametrize("policy", ["none", pytest.param("blocks", marks=pytest.mark.long)])
def test_a_frozen_encoder_stays_unchanged_to_the_last_bit(policy):
    keys = jax.random.split(jax.random.key(3), 2)
    batch = {
        "image": jax.random.randint(keys[0], (8, 16, 16, 3), 0, 256).astype(jnp.uint8),
        "label": jax.random.randint(keys[1], (8, 16, 16), 0, 3).astype(jnp.uint8),
    }
    frozen = freezing(["encoder"])
    module = unet(num_classes=3, encoder="resnet18", encoder_depth=3, decoder_channels=(8, 8, 8))
    model = freeze(rematerialize(module, policy), frozen)
    tx = with_frozen_parameters(optax.adamw(0.1, weight_decay=0.5), frozen)
    state = jax.jit(partial(create_train_state, model=model, tx=tx))(KEY, batch["image"])
    kernels = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim == 4]
    of_decoder = [leaf for leaf in jax.tree.leaves((state.params["decoder"], state.params["head"])) if leaf.ndim == 4]
    assert len(kernels) == 2 * len(of_decoder), "two moments of each kernel of the decoder, and none of the encoder's"
    new, _ = jax.jit(partial(train_step, model=model, loss_fn=LOSS, tx=tx))(state, batch, KEY)
    for before, after in ((state.params, new.params), (state.batch_stats, new.batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, before["encoder"], after["encoder"])
        changed = jax.tree.map(lambda x, y: bool((x != y).any()), before["decoder"], after["decoder"])
        assert all(jax.tree.leaves(changed))
