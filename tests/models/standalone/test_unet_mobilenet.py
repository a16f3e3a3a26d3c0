import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import unet_mobilenet


def shapes(model, size=(33, 47), channels=3):
    image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    init = functools.partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)


def test_the_number_of_values_is_the_tutorials():
    logits, variables = shapes(unet_mobilenet(num_classes=3))
    assert logits.shape == (2, 33, 47, 3)
    sizes = flax.traverse_util.flatten_dict(jax.tree.map(lambda leaf: leaf.size, variables), sep="/")
    # The tutorial counts batch statistics as parameters.
    assert sum(sizes.values()) == 6_504_227
    assert sum(size for name, size in sizes.items() if name.startswith("params/")) == 6_471_395
    assert sum(size for name, size in sizes.items() if name.startswith("params/decoder")) == 4_660_323
    assert {name.split("/")[1] for name in sizes} == {"encoder", "decoder"}


@pytest.mark.parametrize("channels", [1, 4])
def test_bfloat16_gives_float32_logits(channels):
    logits, variables = shapes(unet_mobilenet(num_classes=3, dtype=jnp.bfloat16), channels=channels)
    assert (logits.shape, logits.dtype) == ((2, 33, 47, 3), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_channels": (8, 8)}, r"decoder_channels = \(8, 8\): must be 4 integers of at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        unet_mobilenet(**{"num_classes": 3} | options)
