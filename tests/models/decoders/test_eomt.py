import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg import ops
from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.encoders import make_encoder

pytestmark = pytest.mark.usefixtures("small_encoder")

OPTIONS = {"encoder": "small_transformer", "queries": 3, "blocks": 1, "upscalings": 1}


def built(**options):
    return build_model("eomt", num_classes=2, **OPTIONS | options)


def random_variables(model, image):
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draw.normal(0, 0.5, leaf.shape).astype(np.float32), dict(shapes))


def test_masks_and_classes_are_combined_by_hand():
    model, image = built(), np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype(np.float32)
    variables = random_variables(model, image)
    logits = compiled(model.apply)(variables, image, train=False)
    scores = np.asarray(jax.jit(scores_by_hand)(variables["params"], image))
    np.testing.assert_allclose(np.exp(logits), scores, rtol=2e-4)
    # The softmax of the logits normalizes the scores.
    expected = scores / scores.sum(-1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, rtol=1e-3, atol=1e-5)


def scores_by_hand(params, image):
    # The same encoder with one feature: queries join its tokens before the second of its two blocks.
    encoder = dataclasses.replace(make_encoder("small_transformer", dtype=jnp.float32), feature_blocks=(2,))
    apply = functools.partial(encoder.apply, {"params": params["encoder"]})
    tokens = apply(apply(image, method="embed"), None, first=0, last=1, train=False, method="run")
    queries = jnp.broadcast_to(params["decoder"]["queries"], (2, 3, 8))
    tokens = apply(jnp.concatenate([queries, tokens], 1), None, first=1, last=2, train=False, method="run")
    tokens = apply(tokens, method=lambda module, x: module.norm(x))
    embedded, patches = tokens[:, :3], tokens[:, 5:].reshape(2, 2, 3, 8)
    decoder = params["decoder"]
    classes = jax.nn.softmax(embedded @ decoder["class_head"]["kernel"] + decoder["class_head"]["bias"])[..., :2]
    for number in range(3):
        layer = decoder[f"mask{number}"]
        embedded = (ops.gelu(embedded) if number else embedded) @ layer["kernel"] + layer["bias"]
    upscale = decoder["upscale0"]
    patches = ops.gelu(ops.conv_transpose(patches, upscale["conv"]["kernel"], stride=2) + upscale["conv"]["bias"])
    patches = ops.conv(patches, upscale["depthwise"]["kernel"], groups=8)
    centered = patches - patches.mean(-1, keepdims=True)
    patches = centered / jnp.sqrt(patches.var(-1, keepdims=True) + 1e-6) * upscale["norm"]["scale"]
    patches = patches + upscale["norm"]["bias"]
    masks = ops.resize_bilinear(jnp.einsum("bqc,bhwc->bhwq", embedded, patches), (8, 12))
    return jnp.einsum("bhwq,bqk->bhwk", jax.nn.sigmoid(masks), classes)


def test_all_blocks_belong_to_the_encoder():
    model = built(patch=2, grid=5)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)["params"]
    assert {"block0", "block1", "norm"} <= set(params["encoder"])
    assert params["encoder"]["positions"].shape == (1, 25, 8)
    assert params["encoder"]["patch_embed"]["kernel"].shape == (2, 2, 3, 8)
    assert params["decoder"]["class_head"]["kernel"].shape == (8, 3)
    assert (model.stride, built().stride) == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "small"}, "encoder = 'small': must be a vision transformer: vit_"),
        ({"blocks": 3}, "blocks = 3: must be at most 2, as many as the encoder has"),
        ({"blocks": 0}, "blocks = 0: must be an integer of at least 1"),
        ({"queries": 0}, "queries = 0: must be an integer of at least 1"),
        ({"upscalings": -1}, "upscalings = -1: must be an integer of at least 0"),
        ({"encoder": "vit_small_patch16_dinov3", "grid": 8}, "grid = 8: the encoder has rotary position embeddings"),
        ({"output_stride": 16}, "output_stride = 16: the features of the vision transformer"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        built(**options)
