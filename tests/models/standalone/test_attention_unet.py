import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import attention_unet, plain_unet
from flaxseg.models.layers.attention import AttentionGate


def params_of(model):
    x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


def size(params):
    return sum(leaf.size for leaf in params.values())


def test_a_gate_by_hand():
    def conv(kernel, **bias):
        return {"kernel": jnp.reshape(jnp.float32(kernel), (1, 1, 1, 1)), **bias}

    params = {"theta": conv(2), "phi": conv(-3, bias=jnp.ones(1)), "psi": conv(0.5, bias=jnp.full(1, -1.0))}
    skip = jnp.float32([[1, 10, 3, 10], [10, 10, 10, 10]]).reshape(1, 2, 4, 1)
    signal = jnp.float32([1, -2]).reshape(1, 1, 2, 1)
    gated = compiled(AttentionGate().apply)({"params": params}, skip, signal)
    # relu(2 * 1 - 3 * 1 + 1) = 0 and relu(2 * 3 + 3 * 2 + 1) = 13, so psi gives -1 and 5.5.
    left, right = 1 / (1 + np.exp(1)), 1 / (1 + np.exp(-5.5))
    shares = np.array([left, 0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right, right])
    np.testing.assert_allclose(gated[0, :, :, 0], skip[0, :, :, 0] * shares, rtol=1e-6)


def test_only_the_gates_differ_from_a_plain_unet():
    gated, plain = params_of(attention_unet(num_classes=3)), params_of(plain_unet(num_classes=3, width=64))
    own = {name: gated.pop(name) for name in list(gated) if "/gate/" in name}
    assert gated == plain
    names = ("theta/kernel", "phi/kernel", "phi/bias", "psi/kernel", "psi/bias")
    assert set(own) == {f"decoder/level{level}/gate/{name}" for level in (1, 2, 3) for name in names}
    assert own["decoder/level2/gate/theta/kernel"].shape == (1, 1, 256, 256)
    assert own["decoder/level2/gate/phi/kernel"].shape == (1, 1, 512, 256)
    # theta w * w, phi 2 * w * w + w, psi w + 1.
    assert size(own) == sum(3 * w * w + 2 * w + 1 for w in (128, 256, 512))
    assert size(own) + size(plain) == 32_071_750


def test_open_gates_give_the_plain_unet():
    options = {"num_classes": 2, "width": 4, "depth": 1}
    model, plain = attention_unet(**options, gate_from=0), plain_unet(**options)
    x = jax.random.normal(jax.random.key(0), (1, 11, 9, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), x)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    gated, ungated = (jax.jit(functools.partial(each.apply, train=False)) for each in (model, plain))
    opened = {
        name: jnp.full_like(leaf, 100.0) if name.endswith("psi/bias") else leaf * (not name.endswith("psi/kernel"))
        for name, leaf in flat.items()
    }
    without = {name: leaf for name, leaf in flat.items() if "/gate/" not in name}
    assert len(flat) - len(without) == 5
    expected = ungated(flax.traverse_util.unflatten_dict(without, sep="/"), x)
    np.testing.assert_allclose(gated(flax.traverse_util.unflatten_dict(opened, sep="/"), x), expected, atol=1e-5)
    assert np.abs(gated(variables, x) - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_from": 4}, "gate_from = 4: must be an integer from 0 to 3"),
        ({"norm": "layer"}, "norm = 'layer': must be one of 'batch', 'group', 'none'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        attention_unet(**{"num_classes": 3} | options)
