"""The traced dependence of small functions against their Jacobian matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxseg import ops
from flaxseg.inference import patterns
from flaxseg.inference.dependence import Dependence, unmarked
from flaxseg.inference.influence import trace

SHAPE = (1, 6, 4, 2)
RANDOM = np.random.default_rng(0)


def positive(*shape):
    return jnp.asarray(RANDOM.uniform(0.5, 1.5, shape), jnp.float32)


def shifted_tap(taps, at):
    """A kernel of 0 but for one tap."""
    return jnp.zeros((taps, 1, 2, 3)).at[at].set(1.0)


FUNCTIONS = {
    "elementwise": lambda x: jnp.exp(x) * 2 + x**2 - lax.rsqrt(x),
    "masked": lambda x: x * jnp.array([[1.0, 0.0, 1.0, 1.0]]).reshape(1, 1, 4, 1),
    "activation": jax.nn.silu,
    "custom derivative": ops.gelu,
    "layout": lambda x: jnp.flip(x.transpose(0, 3, 2, 1), 1)[:, :, 1:, ::2],
    "space to depth": lambda x: x.reshape(1, 3, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 3, 2, 8),
    "attention windows": lambda x: jax.nn.softmax(x.reshape(3, 2, 4, 2), 1),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0))),
    "pad within and crop": lambda x: lax.pad(x, 0.0, ((0, 0, 0), (1, -2, 1), (-1, 0, 0), (0, 0, 2))),
    "concatenate": lambda x: jnp.concatenate([x, x[:, :, :, 1:], x[:, :1].repeat(6, 1)], 3),
    "broadcast": lambda x: x[:, :1] + jnp.zeros((1, 5, 4, 2)),
    "split": lambda x: jnp.split(x, [2, 3], 1)[1],
    "constant gather": lambda x: jnp.take(x, np.array([4, 0, 0, 3]), 1),
    "dynamic slice": lambda x: lax.dynamic_slice_in_dim(x, jnp.int32(2), 3, 1),
    "mean": lambda x: x.mean((1, 2)),
    "cumulative sum": lambda x: jnp.cumsum(x, 1),
    "layer norm": lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1),
    "matrix": lambda x: x @ positive(2, 3),
    "two contracted axes": lambda x: jnp.einsum("bhwc,wco->bho", x, positive(4, 2, 3)),
    "image times image": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x),
    "conv": lambda x: ops.conv(x, positive(3, 3, 2, 3)),
    "conv of one tap": lambda x: ops.conv(x, shifted_tap(3, 0)),
    "strided conv": lambda x: ops.conv(x, positive(3, 2, 2, 3), stride=2, padding="SYMMETRIC"),
    "dilated conv": lambda x: ops.conv(x, positive(3, 3, 2, 3), dilation=2),
    "depthwise conv": lambda x: ops.conv(x, positive(3, 3, 1, 2), groups=2),
    "grouped conv": lambda x: ops.conv(x, positive(1, 3, 1, 6), groups=2),
    "conv of several": lambda x: ops.conv([x, x[:, ::-1]], positive(1, 3, 4, 3)),
    "cropping conv": lambda x: ops.conv(x, positive(1, 1, 2, 3), padding=((-1, -2), (0, 0))),
    "transposed conv": lambda x: ops.conv_transpose(x, positive(2, 2, 2, 3)),
    "overlapping transposed conv": lambda x: ops.conv_transpose(x, positive(4, 4, 2, 3)),
    "XLA's transposed conv": lambda x: lax.conv_transpose(
        x, positive(3, 3, 2, 3), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "average pooling": lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"),
    "bilinear resize": lambda x: ops.resize_bilinear(x, (12, 8)),
    "nearest resize": lambda x: ops.resize_nearest(x, (12, 8)),
    "uneven nearest resize": lambda x: ops.resize_nearest(x, (9, 3)),
    "adaptive pooling": lambda x: ops.adaptive_average_pool(x, 3),
    "remat": jax.checkpoint(lambda x: jnp.cumsum(x, 2)),
    "jit": jax.jit(lambda x: x[:, 1:]),
    "switch over platforms": lambda x: lax.platform_dependent(x, cpu=lambda x: 2 * x, default=lambda x: 3 * x),
}  # fmt: skip


def marks(function, shape=SHAPE):
    """Returns bool[outputs, inputs]: the elements that trace marks for each input element."""
    program = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, jnp.float32))
    columns = []
    for index in range(int(np.prod(shape))):
        marked = np.zeros(shape, bool)
        marked.flat[index] = True
        given = Dependence(shape, patterns.compress(marked), patterns.uniform(True, len(shape)))
        (out,) = trace(program, [given])
        columns.append(np.broadcast_to(out.marked, out.shape).ravel())
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_marks_are_the_jacobian(name):
    function = FUNCTIONS[name]
    jacobian = jax.jit(jax.jacrev(function))(positive(*SHAPE))
    expected = np.asarray(jacobian).reshape(-1, int(np.prod(SHAPE))) != 0
    np.testing.assert_array_equal(marks(function), expected)


def test_max_pooling_can_take_any_pixel_of_the_window():
    pool = functools.partial(ops.max_pool, window=3, stride=2, padding=1)
    mean = functools.partial(lax.reduce_window, init_value=0.0, computation=lax.add, window_dimensions=(1, 3, 3, 1))
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    np.testing.assert_array_equal(marks(pool), marks(lambda x: mean(x, window_strides=(1, 2, 2, 1), padding=pads)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.where(jnp.arange(4)[:, None] > 1, x, x[:, ::-1]),
        lambda x: jnp.sort(x, 1),
        lambda x: lax.reduce(x, 0.0, lambda a, b: a + b, (1,)) + lax.associative_scan(jnp.add, x, axis=1)[:, 2],
        lambda x: jnp.take(x, x[0, :, 0, 0].astype(int), 1),
        lambda x: lax.fori_loop(0, 3, lambda i, y: y * 2, x),
        lambda x: lax.cond(x[0, 0, 0, 0] > 1, lambda y: y, lambda y: y + 1, x),
        lambda x: lax.scan(lambda carry, row: (carry + row, row), x[:, 0], x.swapaxes(0, 1))[1],
    ],
)
def test_what_depends_on_values_or_is_unknown_is_never_underestimated(function):
    changed = np.asarray(jax.jacrev(function)(positive(*SHAPE))).reshape(-1, int(np.prod(SHAPE))) != 0
    assert (marks(function) >= changed).all()


def test_parameters_are_unknown_but_for_their_padding():
    # A kernel that is padded on one side reads only that side's neighbor.
    def function(kernel, x):
        return ops.conv(x, jnp.pad(kernel, ((2, 0), (0, 0), (0, 0), (0, 0))))

    shape = (1, 7, 1, 1)
    program = jax.make_jaxpr(function)(jnp.zeros((1, 1, 1, 1)), jnp.zeros(shape))
    marked = np.zeros(shape, bool)
    marked[0, 3] = True
    image = Dependence(shape, marked, patterns.uniform(True, 4))
    (out,) = trace(program, [unmarked((1, 1, 1, 1)), image])
    assert np.flatnonzero(out.marked).tolist() == [2]


def test_the_cause_of_a_global_dependence():
    def function(x):
        with jax.named_scope("stem"):
            x = x * 2
        with jax.named_scope("squeeze"):
            return x * x.mean((1, 2), keepdims=True)

    marked = np.zeros(SHAPE, bool)
    marked[0, 3] = True
    image = Dependence(SHAPE, patterns.compress(marked), patterns.uniform(True, 4))
    (out,) = trace(jax.make_jaxpr(function)(jnp.zeros(SHAPE)), [image])
    assert (out.cause.layer, out.cause.operation, out.cause.on_position) == ("squeeze", "reduce_sum", False)
