import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.linknet import LinkNetDecoder
from flaxseg.models.layers.conv import ConvTranspose
from flaxseg.models.pretrained.torch_names import convert_tensors


def test_the_transposed_convolution_is_pytorchs_with_kernel_4_stride_2_padding_1():
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(2, 3, 4, 4)).astype(np.float32)  # in, out, rows, columns
    x = draw.normal(size=(1, 3, 5, 2)).astype(np.float32)
    # By definition, input (i, j) adds its product with tap (m, n) to output (2 i + m - 1, 2 j + n - 1).
    expected = np.zeros((1, 6 + 2, 10 + 2, 3), np.float32)
    for i, j, m, n in np.ndindex(3, 5, 4, 4):
        expected[:, 2 * i + m, 2 * j + n] += x[:, i, j] @ kernel[:, :, m, n]
    found, _ = convert_tensors({"up.weight": kernel}, [("up", "up:transposed")])
    params = {"kernel": found["params/up/kernel"]}
    y = compiled(ConvTranspose(3, 4, use_bias=False).apply)({"params": params}, x)
    np.testing.assert_allclose(y, expected[:, 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_without_a_feature_the_number_of_channels_stays_the_same():
    features = [jax.ShapeDtypeStruct((1, 16 >> i, 16 >> i, c), jnp.float32) for i, c in enumerate((3, 0, 8, 12, 16))]
    init = functools.partial(LinkNetDecoder().init_with_output, train=False)
    x, variables = jax.eval_shape(init, jax.random.key(0), features)
    assert x.shape == (1, 16, 16, 32)
    kernels = [variables["params"][f"block{i}"]["expand"]["conv"]["kernel"].shape[2:] for i in range(4)]
    assert kernels == [(4, 12), (3, 8), (2, 8), (2, 32)]


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_there_is_a_block_for_each_halving_of_the_encoder(depth):
    model = build_model("linknet", num_classes=2, encoder="resnet18", encoder_depth=depth)
    x = jax.ShapeDtypeStruct((1, 33, 47, 1), jnp.float32)
    logits, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert logits.shape == (1, 33, 47, 2)
    assert set(variables["params"]["decoder"]) == {f"block{i}" for i in range(depth)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "mit_b0"}, "encoder = 'mit_b0': none of mit_b0, .*mit_b5 can be used here: the reference has no"),
        ({"encoder_depth": 2}, "encoder_depth = 2: encoder resnet34 supports 3 or 4 or 5"),
        ({"num_classes": 0}, "num_classes = 0: must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("linknet", **{"num_classes": 3} | options)
