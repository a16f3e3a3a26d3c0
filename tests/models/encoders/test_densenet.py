import functools

import jax
import jax.numpy as jnp
import numpy as np
from compiled import compiled

from flaxseg.models.encoders import make_encoder
from flaxseg.models.encoders.densenet import DenseNet, _Layer
from flaxseg.models.pretrained.torch_names import convert_tensors


def test_a_layer_appends_its_output_to_its_input_by_hand():
    x = np.array([1.0, -2.0, 0.5], np.float32)
    layer, image = _Layer(jnp.float32), jnp.asarray(x)[None, None, None]
    variables = compiled(layer.init)(jax.random.key(0), image, train=False)
    found = compiled(layer.apply)(variables, image, train=False)[0, 0, 0]
    # Means are 0, variances 1; of the 3x3 kernel, only the center meets the pixel.
    params, normal = variables["params"], 1 / np.sqrt(1 + 1e-5)
    y = np.maximum(np.maximum(x * normal, 0) @ params["conv1"]["kernel"][0, 0] * normal, 0)
    np.testing.assert_array_equal(found[:3], x)
    np.testing.assert_allclose(found[3:], y @ params["conv2"]["kernel"][1, 1], rtol=1e-5, atol=1e-6)


def test_a_shallow_encoder_ends_with_the_normalization_of_its_last_transition():
    encoder = make_encoder("densenet121", depth=4, dtype=jnp.float32)
    init = functools.partial(encoder.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))["params"]
    counts = ((1, 6), (2, 12), (3, 24))
    blocks = {f"block{number}_layer{layer}" for number, count in counts for layer in range(1, count + 1)}
    transitions = {f"transition{number}_{part}" for number in (1, 2, 3) for part in ("norm", "conv")}
    assert set(params) == {"stem", *blocks, *transitions} - {"transition3_conv"}
    assert params["transition2_conv"]["kernel"].shape == (1, 1, 512, 256)


def test_names_of_old_and_new_files_are_equivalent():
    shapes = {"norm{}1.weight": (1,), "conv{}2.weight": (1, 1, 1, 1)}
    paths = []
    for dot in ("", "."):
        tensors = {f"features.denseblock3.denselayer11.{name.format(dot)}": np.zeros(s) for name, s in shapes.items()}
        found, unknown = convert_tensors(tensors | {"classifier.weight": np.zeros((1, 1))}, DenseNet.torch_names)
        assert not unknown
        paths.append(list(found))
    assert paths == [["params/block3_layer11/norm1/scale", "params/block3_layer11/conv2/kernel"]] * 2
