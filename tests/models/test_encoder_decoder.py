import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.pretrained.torch_names import convert_tensors


class SmallEncoder(nn.Module):
    output_stride: int = 2

    @nn.compact
    def __call__(self, x, *, train):
        return [x, ConvNormAct(4, stride=2)(x, train=train)]


class SmallDecoder(Decoder):
    @nn.compact
    def __call__(self, features, *, train):
        return Conv(3)(jnp.repeat(jnp.repeat(features[-1], 2, 1), 2, 2))


def network(**options):
    return EncoderDecoder(3, "small", SmallEncoder(), SmallDecoder(), 0.0, 1.0, jnp.float32, **options)


IMAGE = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))


def initialized(model):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), IMAGE)


def test_without_a_head_the_decoder_gives_the_logits():
    model = network(head_kernel_size=0)
    variables = initialized(model)
    assert set(variables["params"]) == {"encoder", "decoder"}
    assert set(initialized(network())["params"]) == {"encoder", "decoder", "head"}
    padded = jnp.pad(IMAGE, ((0, 0), (0, 1), (0, 1), (0, 0)))
    parts = [{name: tree[part] for name, tree in variables.items() if part in tree} for part in ("encoder", "decoder")]
    expected = SmallDecoder().apply(parts[1], SmallEncoder().apply(parts[0], padded, train=False), train=False)
    logits = model.apply(variables, IMAGE, train=False)
    np.testing.assert_allclose(logits, expected[:, :5, :7], rtol=0, atol=1e-6)


class HalfSizeDecoder(Decoder):
    @nn.compact
    def __call__(self, features, *, train):
        return features[-1]


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_to_the_image_with_the_edges_or_the_corners_in_place(align_corners):
    options = {"head_kernel_size": 0, "align_corners": align_corners}
    model = EncoderDecoder(4, "small", SmallEncoder(), HalfSizeDecoder(), 0.0, 1.0, jnp.float32, **options)
    image = jax.random.normal(jax.random.key(2), (1, 6, 8, 3))
    logits, variables = jax.jit(functools.partial(model.init_with_output, train=False))(jax.random.key(1), image)
    small = SmallEncoder().apply({name: tree["encoder"] for name, tree in variables.items()}, image, train=False)[-1]
    # The positions of the 6 rows and 8 columns among the 3 rows and 4 columns of the decoder, whose ends are repeated.
    rows, columns = (np.linspace(0, 2, 6), np.linspace(0, 3, 8)) if align_corners else (ROWS, COLUMNS)
    by_rows = np.apply_along_axis(lambda values: np.interp(rows, np.arange(3), values), 1, small)
    expected = np.apply_along_axis(lambda values: np.interp(columns, np.arange(4), values), 2, by_rows)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-6)


ROWS = [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25]
COLUMNS = [*ROWS, 2.75, 3.25]


def test_the_image_head_classifies_whole_images_by_the_mean_of_the_last_feature():
    model = network(image_classes=4)
    variables = initialized(model)
    given = {name: variables[name] for name in ("params", "batch_stats")}
    logits, heads = model.apply(given, IMAGE, train=False, mutable=["image_logits"])
    last = model.encoder.apply(
        {name: tree["encoder"] for name, tree in given.items()}, jnp.pad(IMAGE, ((0, 0), (0, 1), (0, 1), (0, 0))),
        train=False,
    )[-1]  # fmt: skip
    head = given["params"]["image_head"]
    np.testing.assert_allclose(
        heads["image_logits"]["logits"][0], last.mean((1, 2)) @ head["kernel"] + head["bias"], rtol=1e-5
    )
    # Unless the collection is mutable, only the logits are returned.
    np.testing.assert_array_equal(model.apply(given, IMAGE, train=False), logits)


def test_the_references_image_head_is_converted():
    tensors = {"classification_head.3.weight": np.ones((4, 2), np.float32), "classification_head.3.bias": np.ones(4)}
    found, unknown = convert_tensors(tensors, EncoderDecoder.torch_names)
    assert {path: value.shape for path, value in found.items()} == {
        "params/image_head/kernel": (2, 4),
        "params/image_head/bias": (4,),
    }
    assert not unknown


def test_the_auxiliary_head_gives_logits_at_the_images_size():
    model = network(auxiliary_head=True, auxiliary_channels=6)
    variables = initialized(model)
    assert variables["params"]["auxiliary_head0"]["kernel"].shape == (1, 1, 6, 3)
    given = {name: variables[name] for name in ("params", "batch_stats")}
    _, updates = model.apply(given, IMAGE, train=True, mutable=["batch_stats", "auxiliary"])
    assert updates["auxiliary"]["logits0"][0].shape == (2, 5, 7, 3)


def test_an_auxiliary_head_is_a_switch():
    with pytest.raises(ArgumentError, match=r"auxiliary_head = -0.4: must be True or False"):
        build_model("pspnet", num_classes=2, auxiliary_head=-0.4)
