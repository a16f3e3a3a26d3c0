"""The gradients of a step are those of one device on any mesh of eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import create_train_state, rematerialize, weighted_sum
from flaxseg.models import plain_unet
from flaxseg.ops.platform import compiler_options
from flaxseg.train import sharding
from flaxseg.train.partitioner import partition_safely, reduce_once
from flaxseg.train.program_cost import collectives, shard_bytes
from flaxseg.train.step import loss_and_gradient

KEY = jax.random.key(0)
MODEL = plain_unet(num_classes=3, width=8, depth=1)


def gradient_on(policy="none", **parts):
    """Returns the loss, the gradient, the text of the program, and the state, on a mesh."""
    mesh, model = sharding.make_mesh(**parts), rematerialize(MODEL, policy)
    shape = (8, 64, 16, 3)
    batch = {
        "image": np.asarray(jax.random.randint(KEY, shape, 0, 256), np.uint8),
        "label": np.asarray(jax.random.randint(KEY, shape[:3], 0, 3), np.uint8),
    }
    make = functools.partial(create_train_state, image=jnp.zeros(shape), model=MODEL, tx=optax.sgd(0.1))
    placement = sharding.state_sharding(jax.eval_shape(make, KEY), mesh)
    state = jax.jit(make, out_shardings=placement)(KEY)
    options = {"model": partition_safely(model, mesh), "loss_fn": weighted_sum({"cross_entropy": 1.0, "dice": 1.0})}

    def gradient(state, batch):
        with reduce_once(mesh):
            (loss, _), grads = loss_and_gradient(state, batch, KEY, **options)
        return loss, grads

    where = sharding.replicated(mesh), placement.params
    placed = sharding.place_batch(batch, mesh)
    jitted = jax.jit(gradient, out_shardings=where, compiler_options=compiler_options(remat=True))
    compiled = jitted.lower(state, placed).compile()
    loss, grads = jax.device_get(compiled(state, placed))
    return loss, grads, compiled.as_text(), state


@pytest.fixture(scope="module")
def one_device():
    return gradient_on(data=1)[:2]


CASES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "spatial": {"data": 1, "spatial": 8},
    "data, fsdp and spatial": {"data": 2, "fsdp": 2, "spatial": 2},
    "replicas, data and fsdp": {"replicas": 2, "data": 2, "fsdp": 2},
    "blocks computed again": {"policy": "blocks", "data": 2, "fsdp": 2, "spatial": 2},
    "convolutions kept": {"policy": "convolutions", "data": 8},
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_one_device(one_device, name):
    loss, grads, program, state = gradient_on(**CASES[name])
    np.testing.assert_allclose(loss, one_device[0], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(one_device[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    if CASES[name].get("data") == 8:
        found = collectives(program)
        assert set(found) == {"all-reduce"}
        # Each gradient once, the batch statistics, also where activations are computed again, and a few scalars.
        parameters, statistics = shard_bytes(state.params), shard_bytes(state.batch_stats)
        assert parameters <= found["all-reduce"][1] < parameters + 2 * statistics + 200
