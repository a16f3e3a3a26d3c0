import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.linear import LinearDecoder


def built(**options):
    return build_model("linear", num_classes=2, **options)


def test_features_come_from_the_last_block_or_the_last_four():
    assert built().encoder.taken == (12,)
    assert built(multiscale=True, encoder="vit_large_patch16_dinov3").encoder.taken == (21, 22, 23, 24)
    assert built(multiscale=True, encoder_depth=3).encoder.taken == (3, 4, 5, 6)
    assert (built().pyramid_stride, built().stride, built().align_corners) == (0, 14, False)


def test_a_classifier_of_normalized_features_by_hand():
    maps = [jax.random.normal(jax.random.key(key), (2, 3, 2, 4)) for key in range(3)]
    decoder = LinearDecoder(multiscale=True)
    variables = compiled(decoder.init)(jax.random.key(0), [jnp.zeros((2, 6, 4, 3)), *maps], train=False)
    found, _ = compiled(decoder.apply)(variables, [jnp.zeros((2, 6, 4, 3)), *maps], train=True, mutable=["batch_stats"])
    for number, x in enumerate(maps):
        expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        np.testing.assert_allclose(found[..., 4 * number : 4 * number + 4], expected, rtol=1e-4, atol=1e-5)
    plain, none = compiled(LinearDecoder(batch_norm=False).init_with_output)(jax.random.key(0), maps, train=True)
    np.testing.assert_array_equal(plain, maps[-1])
    assert not none


def test_with_a_convolutional_encoder_it_takes_the_last_feature():
    model = built(encoder="resnet18", output_stride=8)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    assert shapes["params"]["head"]["kernel"].shape == (1, 1, 512, 2)
    assert set(shapes["params"]["decoder"]) == {"norm"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiscale": True, "encoder": "resnet18"}, "multiscale = True: encoder resnet18 has features of different"),
        ({"output_stride": 8}, "output_stride = 8: .*vit_small_patch14_dinov2 are at 1/14 of the image's size; leave"),
        ({"batch_norm": 1}, "batch_norm = 1: must be True or False"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        built(**options)
