import functools

import jax
import jax.numpy as jnp
import numpy as np
from compiled import compiled

from flaxseg.models import unet
from flaxseg.models.encoders.hrnet import HRNet, _Module
from flaxseg.models.pretrained.torch_names import convert_tensors


def test_a_shallow_encoder_still_pads_to_the_coarsest_branch():
    model = unet(num_classes=2, encoder="hrnet_w18", encoder_depth=3, decoder_channels=(8, 8, 8))
    assert (model.stride, model.encoder.channels) == (32, (64, 128, 256))
    init = functools.partial(model.encoder.init_with_output, train=False)
    features, variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 64, 3), jnp.float32))
    assert [f.shape[1:] for f in features] == [(32, 64, 3), (16, 32, 64), (8, 16, 128), (4, 8, 256)]
    # The last module computes the outputs of the two finest branches only, from all four.
    last = variables["params"]["stage4_module2"]
    assert {name for name in last if name.startswith("fuse")} == {
        "fuse0_1", "fuse0_2", "fuse0_3", "fuse1_0_0", "fuse1_2", "fuse1_3",
    }  # fmt: skip
    assert "branch3_block0" in last and "widen2" not in variables["params"]


def test_a_module_adds_resized_branches_by_hand():
    module, draw = _Module((1, 2), 2, jnp.float32), np.random.default_rng(0)
    fine, coarse = np.abs(draw.normal(size=(1, 2, 2, 1))), np.abs(draw.normal(size=(1, 1, 1, 2)))
    inputs = fine.astype(np.float32), coarse.astype(np.float32)
    variables = compiled(module.init)(jax.random.key(0), *inputs, train=False)
    params = variables["params"]
    # Without their residual branches, the blocks keep their inputs, which are above 0.
    for name in params:
        if name.startswith("branch"):
            params[name]["conv2"]["norm"]["scale"] = jnp.zeros_like(params[name]["conv2"]["norm"]["scale"])
    found = compiled(module.apply)(variables, *inputs, train=False)
    normal = 1 / np.sqrt(1 + 1e-5)
    up = coarse[0, 0, 0] @ params["fuse0_1"]["conv"]["kernel"][0, 0] * normal
    np.testing.assert_allclose(found[0], np.maximum(fine + up, 0), rtol=1e-4, atol=1e-6)
    # A strided 3x3 convolution of 2x2 pixels, padded on all sides, meets them with its lower right part.
    kernel = params["fuse1_0_0"]["conv"]["kernel"]
    down = np.einsum("ijc,ijco->o", fine[0], kernel[1:, 1:]) * normal
    np.testing.assert_allclose(found[1][0, 0, 0], np.maximum(coarse[0, 0, 0] + down, 0), rtol=1e-4, atol=1e-6)


def test_names_of_timm():
    expected = {
        "transition1.0.0": "transition1_0/conv",
        "transition1.1.0.1": "transition1_1/norm",
        "transition3.3.0.0": "transition3_3/conv",
        "stage3.2.branches.1.3.bn2": "stage3_module2/branch1_block3/conv2/norm",
        "stage3.2.fuse_layers.0.2.0": "stage3_module2/fuse0_2/conv",
        "stage3.2.fuse_layers.2.0.1.1": "stage3_module2/fuse2_0_1/norm",
        "layer1.0.downsample.0": "layer1_block0/downsample/conv",
        "incre_modules.3.0.conv3": "widen3/conv3/conv",
    }
    tensors = {f"{name}.weight": np.zeros(1 if "norm" in path else (1, 1, 1, 1)) for name, path in expected.items()}
    ignored = {name: np.zeros(1) for name in ("downsamp_modules.0.0.bias", "final_layer.1.bias", "classifier.bias")}
    found, unknown = convert_tensors(tensors | ignored, HRNet.torch_names)
    assert not unknown
    assert [path.removeprefix("params/").rsplit("/", 1)[0] for path in found] == list(expected.values())
