import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.ops import resize_bicubic

IMAGE = np.array([[1.0, -2.0, 3.0], [0.0, 5.0, -1.0], [2.0, 4.0, -3.0]], np.float32)

PYTORCH = {
    ((2, 5), False): [
        [0.807, 0.1002034, -0.3789062, 1.0994848, 2.4081876],
        [1.2274691, 3.1760929, 4.4726562, 0.3038273, -3.3748753],
    ],
    ((2, 5), True): [
        [0.5758805, 0.4883446, 0.4895663, 1.2592418, 1.7704657],
        [1.0056331, 2.7598526, 4.6308184, 0.1775701, -2.995881],
    ],
    ((4, 2), False): [
        [0.0584545, 1.8497581],
        [0.7626934, 1.1835728],
        [1.9639454, -0.2766647],
        [2.7965107, -1.4786129],
    ],
    ((4, 2), True): [[-0.3674566, 1.121128], [1.0845271, 1.3608689], [2.517231, 0.6512784], [3.032474, -0.5627922]],
}
"""IMAGE, resized by PyTorch 2.13's `interpolate`, by size and antialiasing."""


@pytest.mark.parametrize(("size", "antialias"), PYTORCH)
def test_equals_pytorch(size, antialias):
    found = resize_bicubic(jnp.asarray(IMAGE)[None, :, :, None], size, antialias=antialias)
    np.testing.assert_allclose(found[0, :, :, 0], PYTORCH[size, antialias], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
def test_symbolic_sizes_give_the_same_values(antialias):
    rows, columns = jax.export.symbolic_shape("rows, columns")
    image = jnp.asarray(IMAGE)[None, :, :, None]

    def resize(like):
        return resize_bicubic(image, like.shape, antialias=antialias)

    exported = jax.export.export(jax.jit(resize))(jax.ShapeDtypeStruct((rows, columns), jnp.float32))
    for size in ((2, 5), (7, 3), (4, 2)):
        expected = resize_bicubic(image, size, antialias=antialias)
        np.testing.assert_allclose(exported.call(jnp.zeros(size)), expected, rtol=1e-5, atol=1e-5)


def test_the_same_size_changes_nothing_and_bfloat16_stays():
    image = jnp.asarray(IMAGE, jnp.bfloat16)[None, :, :, None]
    np.testing.assert_array_equal(resize_bicubic(image, (3, 3), antialias=True), image)
    assert resize_bicubic(image, (5, 3)).dtype == jnp.bfloat16
