import functools
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import difference
from compiled import compiled
from flax import traverse_util
from references import SMALL_SIZES, image, tensor
from representatives import representatives

from flaxseg.errors import WeightsError
from flaxseg.models import unet
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.layers.positions import resized
from flaxseg.models.pretrained.load import load_pretrained
from flaxseg.models.pretrained.torch_names import convert_tensors

TINY = {"blocks": 4, "width": 8, "heads": 2, "patch": 4}
"""The size of a network that is quick to compile."""


def random_variables(module, image):
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), image)
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draw.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("class_position", [True, False])
def test_tokens_are_the_class_the_registers_and_the_patches_by_hand(class_position):
    module = VisionTransformer(**TINY, grid=3, registers=2, class_position=class_position)
    image = np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype(np.float32)
    variables = random_variables(module, image)
    params = variables["params"]
    tokens = compiled(module.apply)(variables, image, method="embed")
    assert tokens.shape == (2, 1 + 2 + 6, 8)
    places = resized(jnp.asarray(params["positions"]), (2, 3), grid=3, interpolation="bicubic_antialias")[0]
    first = params["class_token"][0, 0] + (places[0] if class_position else 0)
    np.testing.assert_allclose(tokens[:, 0], [first, first], rtol=1e-6)
    np.testing.assert_allclose(tokens[1, 1:3], params["registers"][0], rtol=1e-6)
    # The patch in the second row and third column is the last one.
    patch = np.einsum("ijc,ijcd->d", image[1, 4:8, 8:12], params["patch_embed"]["kernel"])
    expected = patch + params["patch_embed"]["bias"] + places[-1]
    np.testing.assert_allclose(tokens[1, -1], expected, rtol=1e-4, atol=1e-5)


def test_features_are_the_normalized_patches_after_the_chosen_blocks():
    image = np.random.default_rng(1).normal(size=(1, 8, 12, 3)).astype(np.float32)
    module = VisionTransformer(**TINY, registers=1, feature_blocks=(1, 3), class_features=True, normalize=False)
    variables = random_variables(module, image)
    assert sorted(variables["params"]) == ["block0", "block1", "block2", "class_token", "patch_embed", "registers"]
    apply = functools.partial(module.apply, variables)
    tokens, turn = apply(image, method="embed"), module.rotation((2, 3))
    same, *features = apply(image, train=False)
    np.testing.assert_array_equal(same, image)
    done = 0
    for number, feature in zip((1, 3), features, strict=True):
        tokens = apply(tokens, turn, first=done, last=number, train=False, method="run")
        done = number
        np.testing.assert_array_equal(feature[0, 1, 2], np.concatenate([tokens[0, -1], tokens[0, 0]]))
    assert module.channels == (16, 16)


def test_the_first_tokens_of_a_masked_run_see_only_what_they_may():
    image = np.random.default_rng(1).normal(size=(1, 4, 8, 3)).astype(np.float32)
    module = VisionTransformer(**TINY)
    variables = random_variables(module, image)
    tokens, turn = compiled(module.apply)(variables, image, method="embed"), module.rotation((1, 2))
    queries = jnp.ones((1, 1, 8))
    mask = jnp.ones((1, 1, 4, 4), bool).at[:, :, 0, 3].set(False)

    def run(tokens, mask):
        joined = jnp.concatenate([queries, tokens], 1)
        return module.apply(variables, joined, turn, mask, first=3, last=4, train=False, method="run")

    changed = tokens.at[:, 2, 0].add(1.0)
    np.testing.assert_array_equal(run(tokens, mask)[:, 0], run(changed, mask)[:, 0])
    assert np.abs(run(tokens, None)[:, 0] - run(changed, None)[:, 0]).max() > 1e-3


SMALL = {
    "vit": {"patch": 16, "grid": 3},
    "dinov2": {"patch": 14, "grid": 4, "layer_scale": 1e-5},
    "dinov2_registers": {"patch": 14, "grid": 3, "layer_scale": 1e-5, "registers": 4, "class_position": False},
    "dinov3": {"patch": 16, "layer_scale": 1e-5, "registers": 4, "qkv_bias": "none", "epsilon": 1e-5},
}
"""The networks of `references.SMALL_TRANSFORMERS`."""


@pytest.mark.parametrize("name", representatives(SMALL, ("vit", "dinov3")))
def test_features_match_those_of_timm(name):
    with np.load(Path(__file__).parent / "vit_golden.npz") as golden:
        reference = {key.removeprefix(f"{name}/"): golden[key] for key in golden if key.startswith(f"{name}/")}
    module = VisionTransformer(4, 32, 2, **SMALL[name])
    names, shapes = str(reference.pop("names")).split("\n"), json.loads(str(reference.pop("shapes")))
    tensors = {key: tensor(key, tuple(shape), 1.0) for key, shape in zip(names, shapes, strict=True)}
    arrays, unknown = convert_tensors(tensors, module.torch_names)
    assert not unknown
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    features = compiled(module.apply)(variables, image(SMALL_SIZES[name]), train=False)[1:]
    assert len(features) == len(reference) == 4
    for level, feature in enumerate(features, 1):
        assert difference(np.asarray(feature), reference[str(level)]) < 1e-5


def test_a_shallow_encoder_leaves_out_the_last_quarters():
    module = make_encoder("vit_small_patch14_dinov2", depth=3, dtype=jnp.float32)
    init = functools.partial(module.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32))["params"]
    assert module.taken == (3, 6)
    assert {name for name in params if name.startswith("block")} == {f"block{number}" for number in range(6)}


def test_later_blocks_have_a_higher_stochastic_depth_rate():
    rates = []

    def noting(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            rates.append(context.module.rate)
        return call(*args, **kwargs)

    module = VisionTransformer(**TINY, drop_path_rate=0.3)
    with nn.intercept_methods(noting):
        init = functools.partial(module.init, train=False)
        jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    np.testing.assert_allclose(rates, [0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])


@pytest.mark.parametrize(("size", "output_stride"), [((28, 28), 32), ((30, 17), 16)])
def test_a_unet_takes_images_of_any_size(size, output_stride):
    model = unet(num_classes=2, encoder="vit_small_patch14_dinov2")
    assert (model.stride, model.pyramid_stride) == (28, 32)
    model = model.clone(encoder=VisionTransformer(**TINY | {"patch": 14}, grid=2), pyramid_stride=output_stride)
    assert model.stride == (28 if output_stride == 32 else 14)
    init = functools.partial(model.init_with_output, train=False)
    logits, _ = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))
    assert logits.shape == (1, *size, 2)


def test_names_of_both_kinds_of_layer_scale_are_equivalent():
    for name in ("blocks.3.ls2.gamma", "blocks.3.gamma_2"):
        found, unknown = convert_tensors({name: np.zeros(8)}, VisionTransformer(**TINY).torch_names)
        assert (list(found), unknown) == (["params/block3/scale2"], {})


def test_the_license_of_dinov3_has_to_be_accepted_before_a_download():
    model = unet(num_classes=2, encoder="vit_small_patch16_dinov3")
    with pytest.raises(WeightsError, match=r"timm/vit_small_patch16_dinov3\.lvd1689m: .* dinov3-license, which is"):
        load_pretrained({}, model, "imagenet")
    licenses = {ENCODERS[name].pretrained.license for name in ENCODERS if "dinov2" in name or "augreg" in name}
    assert licenses == {"apache-2.0"}
