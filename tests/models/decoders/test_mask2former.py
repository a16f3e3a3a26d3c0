import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.mask2former import Mask2FormerDecoder, _QueryDecoder, visible_pixels

SMALL = {
    "decoder_channels": 32,
    "queries": 3,
    "heads": 2,
    "pixel_layers": 1,
    "query_layers": 2,
    "pixel_mlp_channels": 8,
    "query_mlp_channels": 8,
}


def test_queries_attend_to_the_pixels_of_their_masks_or_to_all():
    masks = jnp.array([[-1.0, 2.0, -3.0], [-1.0, -2.0, 0.0]]).reshape(1, 1, 2, 3)
    expected = [[[True, True], [True, False], [False, True]]]
    np.testing.assert_array_equal(visible_pixels(masks, (1, 2)), expected)


def test_a_mask_is_resized_before_it_is_compared_with_0():
    # The means of neighboring pixels are 1 and -1.
    masks = jnp.array([5.0, -3.0, 1.0, -3.0]).reshape(1, 1, 4, 1)
    np.testing.assert_array_equal(visible_pixels(masks, (1, 2)), [[[True, False]]])


def test_scores_are_sums_over_queries(monkeypatch):
    classes = np.array([[2.0, 0, 1], [0, 3, 0]], np.float32)
    masks = np.array([[0.5, -1], [2, 1]], np.float32)

    def given(self, maps, mask_features):
        return jnp.asarray(classes)[None], jnp.asarray(masks).reshape(1, 1, 2, 2)

    monkeypatch.setattr(_QueryDecoder, "__call__", given)
    features = [jnp.zeros((1, 1, 2, 3)), *[jnp.zeros((1, 1, 1, 4))] * 5]
    decoder = Mask2FormerDecoder(num_classes=2, **SMALL)
    found, _ = jax.jit(functools.partial(decoder.init_with_output, train=False))(jax.random.key(0), features)
    probabilities = np.exp(classes) / np.exp(classes).sum(1, keepdims=True)
    inside = 1 / (1 + np.exp(-masks))
    scores = [[sum(inside[x, q] * probabilities[q, c] for q in range(2)) for c in range(2)] for x in range(2)]
    np.testing.assert_allclose(np.exp(found[0, 0]), scores, rtol=1e-5)


def test_scores_of_0_have_finite_logits(monkeypatch):
    def given(self, maps, mask_features):
        return jnp.array([[[0.0, 200.0]]]), jnp.full((1, 1, 1, 1), -200.0)

    monkeypatch.setattr(_QueryDecoder, "__call__", given)
    features = [jnp.zeros((1, 1, 1, 3)), *[jnp.zeros((1, 1, 1, 4))] * 5]
    init = functools.partial(Mask2FormerDecoder(num_classes=1, **SMALL).init_with_output, train=False)
    np.testing.assert_allclose(jax.jit(init)(jax.random.key(0), features)[0], np.log(1e-10), rtol=1e-5)


def test_parameters_of_each_layer():
    model = build_model("mask2former", num_classes=5, encoder="resnet18", **SMALL)
    image = jax.ShapeDtypeStruct((1, 40, 50, 3), jnp.float32)
    init = functools.partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(init, jax.random.key(0), image)
    assert logits.shape == (1, 40, 50, 5)
    decoder = variables["params"]["decoder"]
    assert [name for name in decoder["pixels"] if name.startswith("layer")] == ["layer0"]
    assert sorted(name for name in decoder["queries"] if name.startswith("layer")) == ["layer0", "layer1"]
    assert decoder["pixels"]["level_embedding"].shape == decoder["queries"]["level_embedding"].shape == (3, 32)
    assert decoder["queries"]["class_head"]["kernel"].shape == (32, 6)
    assert decoder["queries"]["feature"].shape == decoder["queries"]["position"].shape == (3, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries = 0: must be an integer of at least 1"),
        ({"decoder_channels": 48}, "decoder_channels = 48: must be a multiple of 32 and of heads = 8"),
        ({"heads": 5}, "decoder_channels = 256: must be a multiple of 32 and of heads = 5"),
        ({"feature_epsilon": 0}, "feature_epsilon = 0: must be a number above 0"),
        ({"encoder_depth": 4}, "encoder_depth = 4: Mask2Former needs 5, as it uses the feature at 1/32"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("mask2former", **{"num_classes": 3, "encoder": "resnet18"} | options)
