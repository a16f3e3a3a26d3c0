import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from jax import lax

from flaxseg.models.decoders.aspp import ASPP, SeparableConvNormAct


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_the_taps_of_each_branch_are_its_rate_apart():
    aspp = ASPP(2, (2, 3, 5), separable=False, dropout=0.0)
    x = jnp.zeros((1, 13, 13, 1)).at[0, 6, 6].set(1.0)
    variables = jax.tree.map(jnp.ones_like, compiled(aspp.init)(jax.random.key(0), x, train=False))
    _, state = compiled(aspp.apply)(variables, x, train=False, capture_intermediates=True)
    convolved = {name: state["intermediates"][name]["conv"]["__call__"][0] for name in variables["params"]}
    for name, rate in (("branch1", 2), ("branch2", 3), ("branch3", 5)):
        rows, columns = np.nonzero(np.asarray(convolved[name][0, :, :, 0]))
        assert set(rows) == set(columns) == {6 - rate, 6, 6 + rate}
        assert len(rows) == 9
    np.testing.assert_allclose(convolved["pooling"], np.full((1, 1, 1, 2), 1 / 169), rtol=1e-6)


def test_a_separable_layer_is_a_convolution_with_kernels_of_rank_one():
    layer, x = SeparableConvNormAct(4, dilation=2), normal(0, 2, 9, 8, 3)
    variables = compiled(layer.init)(jax.random.key(1), x, train=False)
    parameters = variables["params"]
    names = {name: set(values) for name, values in parameters.items()}
    assert names == {"depthwise": {"kernel"}, "pointwise": {"kernel"}, "norm": {"scale", "bias"}}
    kernel = parameters["depthwise"]["kernel"].transpose(0, 1, 3, 2) * parameters["pointwise"]["kernel"]
    plain = plain_conv([x], kernel, stride=1, dilation=2, groups=1, padding="SAME")
    expected = jax.nn.relu(plain / np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(compiled(layer.apply)(variables, x, train=False), expected, atol=1e-5)


@pytest.mark.parametrize("separable", [True, False])
def test_gradients_equal_those_of_plain_convolutions(separable, monkeypatch):
    """Covers dilation, groups, enough rows for chunks, a rate larger than the map, and the broadcast pooling branch."""
    module, x = ASPP(3, (2, 5, 40), separable=separable, dropout=0.0), normal(0, 2, 36, 6, 4)
    variables = compiled(module.init)(jax.random.key(1), x, train=False)

    def gradients():
        def loss(params, x):
            y = module.apply({"params": params, "batch_stats": variables["batch_stats"]}, x, train=False)
            return jnp.sum(jnp.sin(y))

        return jax.jit(jax.grad(loss, (0, 1)))(variables["params"], x)

    ours = gradients()
    monkeypatch.setattr("flaxseg.ops.conv", plain_conv)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(gradients()), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def plain_conv(parts, kernel, *, stride, dilation, groups, padding, size=None):
    assert stride == 1 and padding == "SAME" and size is None
    size = max(part.shape[1:3] for part in parts)
    x = jnp.concatenate([jnp.broadcast_to(part, (len(part), *size, part.shape[3])) for part in parts], -1)
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(k // 2 * dilation, k // 2 * dilation) for k in kernel.shape[:2]],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
