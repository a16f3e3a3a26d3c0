import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.models.layers.pyramid import feature_pyramid


@pytest.mark.parametrize(("stride", "strides"), [(32, [4, 8, 16, 32]), (16, [4, 8, 16, 16]), (8, [4, 8, 8, 8])])
def test_maps_have_the_strides_of_a_pyramid(stride, strides):
    maps = [jnp.full((1, 2, 4, 3), float(number)) for number in range(4)]
    image, empty, *found = feature_pyramid([jnp.zeros((1, 32, 64, 3)), *maps], output_stride=stride)
    assert (image.shape, empty.shape) == ((1, 32, 64, 3), (1, 16, 32, 0))
    assert [x.shape for x in found] == [(1, 32 // each, 64 // each, 3) for each in strides]
    for number, x in enumerate(found):
        np.testing.assert_array_equal(x, np.full(x.shape, float(number)))


def test_values_by_hand():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    *_, doubled, same, halved = feature_pyramid([jnp.zeros((1, 32, 64, 3)), x, x, x, x], output_stride=32)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(halved[0, :, :, 0], [[2.5, 4.5]])
    np.testing.assert_allclose(doubled[0, 0, :, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], rtol=1e-6)
