"""The contract of every encoder of ENCODERS: the parameters and features of its reference."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from representatives import representatives

from flaxseg.errors import ArgumentError
from flaxseg.models import MODELS, unet
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.registry import option_errors

REFERENCE = {
    "resnet18": (11_176_512, (64, 64, 128, 256, 512)),
    "resnet34": (21_284_672, (64, 64, 128, 256, 512)),
    "resnet50": (23_508_032, (64, 256, 512, 1024, 2048)),
    "resnet101": (42_500_160, (64, 256, 512, 1024, 2048)),
    "resnet152": (58_143_808, (64, 256, 512, 1024, 2048)),
    "resnext50_32x4d": (22_979_904, (64, 256, 512, 1024, 2048)),
    "resnext101_32x8d": (86_742_336, (64, 256, 512, 1024, 2048)),
    "se_resnext50_32x4d": (25_510_896, (64, 256, 512, 1024, 2048)),
    "seresnext50_32x4d": (25_510_896, (64, 256, 512, 1024, 2048)),
    "vgg11": (9_220_480, (128, 256, 512, 512, 512)),
    "vgg11_bn": (9_225_984, (128, 256, 512, 512, 512)),
    "vgg13": (9_404_992, (128, 256, 512, 512, 512)),
    "vgg13_bn": (9_410_880, (128, 256, 512, 512, 512)),
    "vgg16": (14_714_688, (128, 256, 512, 512, 512)),
    "vgg16_bn": (14_723_136, (128, 256, 512, 512, 512)),
    "vgg19": (20_024_384, (128, 256, 512, 512, 512)),
    "vgg19_bn": (20_035_392, (128, 256, 512, 512, 512)),
    "mobilenet_v2": (2_223_872, (16, 24, 32, 96, 1280)),
    "efficientnet_b0": (3_595_388, (32, 24, 40, 112, 320)),
    "efficientnet_b1": (6_101_024, (32, 24, 40, 112, 320)),
    "efficientnet_b2": (7_202_562, (32, 24, 48, 120, 352)),
    "efficientnet_b3": (10_103_336, (40, 32, 48, 136, 384)),
    "efficientnet_b4": (16_742_216, (48, 32, 56, 160, 448)),
    "efficientnet_b5": (27_288_112, (48, 40, 64, 176, 512)),
    "efficientnet_b6": (39_403_992, (56, 40, 72, 200, 576)),
    "efficientnet_b7": (62_143_440, (64, 48, 80, 224, 640)),
    "efficientnet_lite0": (2_958_848, (16, 24, 40, 112, 320)),
    "efficientnet_lite1": (3_723_520, (16, 24, 40, 112, 320)),
    "efficientnet_lite2": (4_357_952, (16, 24, 48, 120, 352)),
    "efficientnet_lite3": (6_422_016, (24, 32, 48, 136, 384)),
    "efficientnet_lite4": (11_149_568, (24, 32, 56, 160, 448)),
    "convnext_tiny": (27_818_592, (0, 96, 192, 384, 768)),
    "convnext_small": (49_453_152, (0, 96, 192, 384, 768)),
    "convnext_base": (87_564_416, (0, 128, 256, 512, 1024)),
    "convnext_large": (196_227_264, (0, 192, 384, 768, 1536)),
    "mit_b0": (3_319_392, (0, 32, 64, 160, 256)),
    "mit_b1": (13_151_424, (0, 64, 128, 320, 512)),
    "mit_b2": (24_196_288, (0, 64, 128, 320, 512)),
    "mit_b3": (44_072_128, (0, 64, 128, 320, 512)),
    "mit_b4": (60_842_688, (0, 64, 128, 320, 512)),
    "mit_b5": (81_443_008, (0, 64, 128, 320, 512)),
    "resnest50d": (25_434_240, (64, 256, 512, 1024, 2048)),
    "regnety_016": (10_313_430, (32, 48, 120, 336, 888)),
    "regnety_032": (17_923_338, (32, 72, 216, 576, 1512)),
    "densenet121": (6_953_856, (64, 256, 512, 1024, 1024)),
    "densenet169": (12_484_480, (64, 256, 512, 1280, 1664)),
    "mobilenetv3_large_100": (2_971_952, (16, 24, 40, 112, 960)),
    "mobilenet_v3_large": (2_971_952, (16, 24, 40, 80, 960)),
    "tf_efficientnetv2_s": (19_847_248, (24, 48, 64, 160, 256)),
    "tf_efficientnetv2_m": (52_200_436, (24, 48, 80, 176, 512)),
    "hrnet_w18": (10_948_180, (64, 128, 256, 512, 1024)),
    "hrnet_w48": (67_119_040, (64, 128, 256, 512, 1024)),
    "vit_base_patch16_224": (85_798_656, (768,) * 4),
    "vit_base_patch16_384": (86_090_496, (768,) * 4),
    "vit_large_patch16_384": (303_690_752, (1024,) * 4),
    "vit_small_patch14_dinov2": (22_056_192, (384,) * 4),
    "vit_base_patch14_dinov2": (86_579_712, (768,) * 4),
    "vit_large_patch14_dinov2": (304_367_616, (1024,) * 4),
    "vit_small_patch14_reg4_dinov2": (22_057_344, (384,) * 4),
    "vit_base_patch14_reg4_dinov2": (86_582_016, (768,) * 4),
    "vit_large_patch14_reg4_dinov2": (304_370_688, (1024,) * 4),
    "vit_small_patch16_dinov3": (21_586_944, (384,) * 4),
    "vit_base_patch16_dinov3": (85_641_216, (768,) * 4),
    "vit_large_patch16_dinov3": (303_079_424, (1024,) * 4),
    "swin_tiny_patch4_window7_224": (27_517_818, (0, 96, 192, 384, 768)),
    "swin_small_patch4_window7_224": (48_835_722, (0, 96, 192, 384, 768)),
    "swin_base_patch4_window7_224": (86_741_176, (0, 128, 256, 512, 1024)),
    "swin_base_patch4_window12_384": (86_876_536, (0, 128, 256, 512, 1024)),
    "swin_large_patch4_window7_224": (194_992_404, (0, 192, 384, 768, 1536)),
    "swin_large_patch4_window12_384": (195_195_444, (0, 192, 384, 768, 1536)),
    "beit_base_patch16_224": (85_760_448 + 7_081_728, (0, *[768] * 4)),
    "beit_base_patch16_640": (72_227_040 + 7_081_728, (0, *[768] * 4)),
    "beit_large_patch16_224": (303_403_520 + 12_588_032, (0, *[1024] * 4)),
    "beit_large_patch16_640": (280_125_824 + 12_588_032, (0, *[1024] * 4)),
}
"""Parameters and channels of the features at 1/2, 1/4, ... in segmentation_models_pytorch; of vision transformers, in
timm.

Those of BEiT's blocks are timm's, and those of its pyramid are three 2x2 kernels with biases and one normalization.
Its EfficientNets B0 to B7 also have the unused last convolution before the classifier, of at least 412,160 parameters.
"""


def shapes(name, image, **options):
    """Returns the module, and the shapes of its features and variables."""
    module = make_encoder(name, **{"dtype": jnp.float32} | options)
    init = functools.partial(module.init_with_output, train=False)
    features, variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(image, jnp.float32))
    return module, features, variables


def test_every_encoder_is_tested():
    assert set(REFERENCE) == set(ENCODERS)


ONE_PER_FAMILY = (
    "resnet18",
    "se_resnext50_32x4d",
    "vgg11_bn",
    "mobilenet_v2",
    "efficientnet_b0",
    "efficientnet_lite0",
    "convnext_tiny",
    "mit_b0",
    "resnest50d",
    "regnety_016",
    "densenet121",
    "mobilenetv3_large_100",
    "tf_efficientnetv2_s",
    "vit_small_patch16_dinov3",
    "swin_tiny_patch4_window7_224",
    "beit_base_patch16_224",
)

OTHER_KINDS = ("resnet50", "vgg11", "vit_base_patch16_224")
"""Encoders of one of these families with other blocks, layers or features."""


@pytest.mark.parametrize("name", representatives(ENCODERS, (*ONE_PER_FAMILY, *OTHER_KINDS)))
def test_parameters_and_features_match_the_reference(name):
    patch = ENCODERS[name].patch
    module, features, variables = shapes(name, (1, 4 * patch or 64, 6 * patch or 96, 3))
    parameters, channels = REFERENCE[name]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert module.channels == channels
    # The features of a vision transformer are at one stride.
    sizes = [(1, 4 * patch, 6 * patch), *[(1, 4, 6)] * 4] if patch else [(1, 64 >> i, 96 >> i) for i in range(6)]
    assert [feature.shape[:3] for feature in features] == sizes
    assert tuple(feature.shape[3] for feature in features[1:]) == channels


TESTED_ALONE = (
    "se_resnext50_32x4d",
    "mobilenet_v2",
    "efficientnet_lite0",
    "convnext_tiny",
    "resnest50d",
    "regnety_016",
    "densenet121",
    "mobilenetv3_large_100",
    "tf_efficientnetv2_s",
)
"""Encoders whose depths and strides are also tested with their family, or are those of another one."""


@pytest.mark.parametrize("name", representatives(ENCODERS, set(ONE_PER_FAMILY).difference(TESTED_ALONE)))
def test_other_depths_strides_types_and_channels(name):
    encoder = ENCODERS[name]
    depth, stride, side = min(encoder.depths), min(encoder.output_strides), 4 * encoder.patch or 64
    module, features, variables = shapes(
        name, (1, side, side, 4), depth=max(encoder.depths), output_stride=stride, dtype=jnp.bfloat16
    )
    strides = [1, *[encoder.patch] * 4] if encoder.patch else [min(2**level, stride) for level in range(6)]
    assert module.output_stride == strides[-1]
    assert [feature.shape[1] for feature in features] == [side // each for each in strides]
    assert all(feature.dtype == jnp.bfloat16 for feature in features[1:] if feature.size)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    shallow, features, _ = shapes(name, (1, side, side, 1), depth=depth)
    assert len(features) == len(shallow.channels) + 1 == depth + (not encoder.patch)
    assert shallow.channels == make_encoder(name, dtype=jnp.float32).channels[: len(shallow.channels)]
    assert isinstance(hash(module), int) and isinstance(module, nn.Module)


def test_unknown_encoders_and_unsupported_options_are_named():
    with pytest.raises(ArgumentError, match=r"encoder = 'resnet43': unknown; did you mean 'resnet\d+' or"):
        unet(num_classes=2, encoder="resnet43")
    for name in ("timm/efficientnet_b0.ra_in1k", "timm-efficientnet-b0", "tu-efficientnet_b0"):
        with pytest.raises(ArgumentError, match=rf"encoder = '{name}': unknown; did you mean 'efficientnet_b0'\?"):
            unet(num_classes=2, encoder=name)
    with pytest.raises(ArgumentError, match=r"did you mean 'mobilenetv3_large_100'\? `flaxseg models` lists all"):
        unet(num_classes=2, encoder="mobilenetv3_large")
    with pytest.raises(ArgumentError, match="encoder_depth = 6: encoder resnet18 supports 3 or 4 or 5"):
        unet(num_classes=2, encoder="resnet18", encoder_depth=6, decoder_channels=(1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet18", "width": 16}, "width = 16: no such option; options are num_classes, encoder"),
        ({"encoder": ""}, "encoder = '': unknown. `flaxseg models` lists all"),
        ({"encoder": "resnet18", "decoder_channels": (8, 8)}, r"decoder_channels = \(8, 8\): must be 5 integers"),
        ({"encoder": "resnet18", "attention": "se"}, "attention = 'se': must be one of 'none', 'scse'"),
    ],
)
def test_wrong_options_of_a_unet_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        unet(num_classes=2, **options)


def test_the_plain_unet_has_none_of_the_options_of_a_unet_with_an_encoder():
    options = {"encoder": "resnet18", "attention": "scse"}
    errors = option_errors(MODELS["plain_unet"], options, key="options", given=["num_classes"])
    assert [error.split(";")[0] for error in errors] == [
        "options.encoder = 'resnet18': no such option",
        "options.attention = 'scse': no such option",
    ]
