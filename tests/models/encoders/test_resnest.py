import jax
import jax.numpy as jnp
import numpy as np
from compiled import compiled

from flaxseg.models.encoders.resnest import _Block


def random_block(stride, x):
    """Returns a block, and its variables with random statistics."""
    block = _Block(2, stride, 1, False, jnp.float32)
    variables = compiled(block.init)(jax.random.key(0), x, train=False)
    draw = np.random.default_rng(0)
    return block, jax.tree.map(lambda leaf: draw.uniform(0.1, 0.4, leaf.shape).astype(np.float32), variables)


def normalized(y, variables, name):
    params, stats = variables["params"][name]["norm"], variables["batch_stats"][name]["norm"]
    return (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]


def test_split_attention_of_one_pixel_by_hand():
    x = np.array([0.5, 2.0, 0.1, 0.7, 0.0, 0.3, 1.1, 0.4], np.float32)
    block, variables = random_block(1, jnp.asarray(x)[None, None, None])
    params = variables["params"]
    kernel = lambda name: params[name]["conv"]["kernel"][0, 0]  # noqa: E731

    y = np.maximum(normalized(x @ kernel("conv1"), variables, "conv1"), 0)
    # Each split convolves one of the two channels; of the 3x3 kernel, only the center meets the pixel.
    center = params["split"]["conv"]["kernel"][1, 1]
    splits = np.concatenate([y[:1] @ center[:, :2], y[1:] @ center[:, 2:]])
    splits = np.maximum(normalized(splits, variables, "split"), 0)
    pooled = (splits[:2] + splits[2:]) @ kernel("reduce") + params["reduce"]["conv"]["bias"]
    pooled = np.maximum(normalized(pooled, variables, "reduce"), 0)
    scores = np.exp(pooled @ params["expand"]["kernel"][0, 0] + params["expand"]["bias"])
    weights = scores / np.tile(scores[:2] + scores[2:], 2)
    y = (weights * splits)[:2] + (weights * splits)[2:]
    y = normalized(y @ kernel("conv3"), variables, "conv3")
    found = compiled(block.apply)(variables, jnp.asarray(x)[None, None, None], train=False)
    np.testing.assert_allclose(found[0, 0, 0], np.maximum(x + y, 0), rtol=1e-4)


def test_a_strided_block_pools_its_input_to_means():
    x = np.random.default_rng(1).uniform(0, 1, (1, 4, 4, 8)).astype(np.float32)
    block, variables = random_block(2, jnp.asarray(x))
    # Without the other branch, the means of 2x2 pixels and the convolution remain.
    variables["params"]["conv3"]["norm"] = {"scale": np.zeros(8, np.float32), "bias": np.zeros(8, np.float32)}
    means = x.reshape(1, 2, 2, 2, 2, 8).mean((2, 4))
    y = normalized(means @ variables["params"]["downsample"]["conv"]["kernel"][0, 0], variables, "downsample")
    np.testing.assert_allclose(compiled(block.apply)(variables, x, train=False), np.maximum(y, 0), rtol=1e-4, atol=1e-5)
