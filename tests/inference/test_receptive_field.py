"""Halos of small networks by hand, of the library's networks, and the layers of networks that have none."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flaxseg import ops
from flaxseg.inference.receptive_field import Locality, NotLocal, exact_halo, locality
from flaxseg.models import build_model
from flaxseg.models.layers.conv import Conv


class Network(nn.Module):
    """A network of one function of the module and the image."""

    function: Callable
    mean: float = 0.0
    std: float = 1.0

    @nn.compact
    def __call__(self, x, *, train):
        return self.function(x)


def shapes(model, channels=3, size=64):
    image = jnp.zeros((1, size, size, channels))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))


def measured(function, channels=1):
    model = Network(function)
    return locality(model, shapes(model, channels), channels)


def half(x):
    return Conv(2, 2, stride=2)(x)


def double(x):
    return ops.resize_nearest(x, (2 * x.shape[1], 2 * x.shape[2]))


SMALL = {
    "pixel": (lambda x: Conv(2, 1)(x), 0, 1),
    "3x3": (lambda x: Conv(2, 3)(x), 1, 1),
    "dilated": (lambda x: Conv(2, 3, dilation=4)(x), 4, 1),
    "rows only": (lambda x: Conv(2, (7, 1))(x), 3, 1),
    "columns only": (lambda x: Conv(2, (1, 7))(x), 3, 1),
    # An even kernel reads one more pixel after than before.
    "even": (lambda x: Conv(2, 4)(x), 2, 1),
    # Tiles of whole windows are independent.
    "patches": (lambda x: double(half(x)), 0, 2),
    # One neighbor at half the resolution is two pixels; rounded up to a multiple of 4, its stride, it is 4.
    "3x3 at half": (lambda x: double(Conv(2, 3)(half(x))), 2, 2),
    "3x3 at a quarter": (lambda x: double(double(Conv(2, 3)(half(half(x))))), 4, 4),
    # Five pixels: two for the neighbor at half the resolution, and three before.
    "3x3 at half, 7x7 before": (lambda x: double(Conv(2, 3)(half(Conv(2, 7)(x)))), 6, 2),
    "bilinear": (
        lambda x: ops.resize_bilinear(ops.max_pool(x, 2), (x.shape[1], x.shape[2])),
        2,
        2,
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_by_hand(name):
    function, halo, stride = SMALL[name]
    assert measured(function) == Locality(halo, stride)


def test_group_normalization_over_channels_alone_is_local():
    assert measured(lambda x: nn.LayerNorm()(Conv(4, 3)(x))) == Locality(1, 1)


ARCHITECTURES = [
    ("plain_unet", {}, 96),
    pytest.param("attention_unet", {}, 112, marks=pytest.mark.long),
    pytest.param("unet", {"encoder": "resnet18"}, 288, marks=pytest.mark.long),
    pytest.param("unet", {"encoder": "resnet34"}, 544, marks=pytest.mark.long),
    ("linknet", {"encoder": "resnet18"}, 256),
    pytest.param("unetplusplus", {"encoder": "resnet18"}, 288, marks=pytest.mark.long),
    pytest.param("fcn8s", {}, 224, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "options", "halo"), ARCHITECTURES)
def test_architectures(name, options, halo):
    model = build_model(name, num_classes=2, **options)
    assert exact_halo(model, shapes(model), 3) == halo


REFUSED = [
    ("fpn", {"encoder": "small"}, "decoder/level0_block0/norm"),
    ("deeplabv3", {"encoder": "small"}, "decoder/aspp"),
    ("deeplabv3plus", {"encoder": "small"}, "decoder/aspp"),
    ("pspnet", {"encoder": "small"}, "decoder"),
    ("pan", {"encoder": "small"}, "decoder/attention"),
    ("upernet", {"encoder": "small"}, "decoder/pooling"),
    ("lraspp", {"encoder": "small"}, "decoder"),
    ("manet", {"encoder": "small"}, "decoder/center"),
    ("unet", {"encoder": "efficientnet_b0"}, "encoder/block0/squeeze"),
    ("unet", {"encoder": "small", "attention": "scse"}, "decoder/block0/attention1"),
    ("segformer", {"encoder": "mit_b0"}, "encoder/stage1_block0/attention"),
    ("plain_unet", {"norm": "group"}, "encoder/level0/block0/norm"),
]


@pytest.mark.usefixtures("small_encoder")
@pytest.mark.parametrize(("name", "options", "layer"), REFUSED)
def test_networks_that_are_not_local_name_the_layer(name, options, layer):
    model = build_model(name, num_classes=2, **options)
    with pytest.raises(NotLocal, match=f"{layer}: .*use BlendTiling") as error:
        exact_halo(model, shapes(model), 3)
    assert error.value.layer.endswith("/" + layer)


def test_a_resize_that_aligns_corners_depends_on_the_size():
    def function(x):
        return ops.resize_bilinear(half(x), (x.shape[1], x.shape[2]), align_corners=True)

    with pytest.raises(NotLocal, match="depend on the position within the image and on its size"):
        measured(function)


def test_a_receptive_field_that_fits_no_image_is_refused():
    with pytest.raises(NotLocal, match="exceeds 2048 pixels"):
        measured(lambda x: Conv(1, 5, dilation=1200)(Conv(1, 5, dilation=1200)(Conv(1, 3)(x))))


@pytest.mark.parametrize("dilation", [100, 200, 1500])
def test_dilation_beyond_small_images_is_found(dilation):
    assert measured(lambda x: Conv(1, 3, dilation=dilation)(x)) == Locality(dilation, 1)


def test_more_than_three_channels():
    model = build_model("plain_unet", num_classes=2, width=2)
    assert exact_halo(model, shapes(model, channels=7), 7) == 96
