import functools
import re

import jax
import jax.numpy as jnp
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models.encoders import make_encoder


def path_of(module, name):
    """Returns the path of a PyTorch module."""
    return next(path for pattern, path in module.torch_names if re.fullmatch(pattern, name))


@pytest.mark.parametrize(
    ("encoder", "name", "path"),
    [
        ("vgg16", "features.0", "block1/conv1/conv"),
        ("vgg16", "features.5", "block2/conv1/conv"),
        ("vgg16", "features.28", "block5/conv3/conv"),
        ("vgg16_bn", "features.1", "block1/conv1/norm"),
        ("vgg16_bn", "features.41", "block5/conv3/norm"),
        ("vgg19_bn", "features.49", "block5/conv4/conv"),
        ("vgg11", "classifier.6", None),
    ],
)
def test_modules_have_their_indices_in_torchvisions_sequence(encoder, name, path):
    assert path_of(make_encoder(encoder, dtype=jnp.float32), name) == path


def test_all_features_but_the_coarsest_are_taken_before_pooling():
    image = jax.ShapeDtypeStruct((1, 32, 64, 3), jnp.float32)
    for depth, sizes in ((5, (32, 16, 8, 4, 2, 1)), (3, (32, 16, 8, 4))):
        module = make_encoder("vgg11", depth=depth, dtype=jnp.float32)
        init = functools.partial(module.init_with_output, train=False)
        features, variables = jax.eval_shape(init, jax.random.key(0), image)
        assert [feature.shape[1:3] for feature in features] == [(size, 2 * size) for size in sizes]
        assert features[0].shape[3] == 64
        assert set(variables["params"]) == {f"block{number}" for number in range(1, min(depth + 1, 5) + 1)}


def test_dilation_is_refused():
    with pytest.raises(ArgumentError, match="output_stride = 16: encoder vgg13 supports 32"):
        make_encoder("vgg13", output_stride=16, dtype=jnp.float32)
