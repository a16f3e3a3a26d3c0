import functools

import jax
import jax.numpy as jnp
import pytest

from flaxseg import ops
from flaxseg.models.encoders import make_encoder
from flaxseg.models.flops import multiply_adds


def counted(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return multiply_adds(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize(
    ("options", "image", "kernel", "expected"),
    [
        ({}, (2, 8, 6, 3), (3, 3, 3, 5), 2 * 8 * 6 * 5 * 9 * 3),
        # Each output depends on a quarter of the channels.
        ({"groups": 4, "stride": 2}, (1, 8, 6, 12), (3, 3, 3, 8), 4 * 3 * 8 * 9 * 3),
        ({"dilation": 2, "padding": "VALID"}, (1, 8, 6, 3), (3, 3, 3, 5), 4 * 2 * 5 * 9 * 3),
        # A depthwise convolution, which is not implemented as a convolution on every platform.
        ({"groups": 6}, (1, 4, 4, 6), (3, 3, 1, 6), 4 * 4 * 6 * 9),
        # A 1x1 convolution, which is implemented as a matrix product.
        ({}, (1, 4, 4, 3), (1, 1, 3, 5), 16 * 3 * 5),
    ],
)
def test_convolutions_by_hand(options, image, kernel, expected):
    assert counted(functools.partial(ops.conv, **options), image, kernel) == expected


def test_a_transposed_convolution_by_hand():
    assert counted(ops.conv_transpose, (1, 4, 4, 3), (4, 4, 3, 5)) == 16 * 16 * 3 * 5


def test_matrix_products_by_hand():
    assert counted(jnp.matmul, (2, 4, 3), (3, 5)) == 2 * 4 * 3 * 5
    assert counted(lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k), (2, 7, 3, 4), (2, 6, 3, 4)) == 2 * 3 * 7 * 6 * 4


def test_inner_programs_count_as_often_as_they_run():
    shapes = (4, 4), (4, 4)
    once = counted(jnp.matmul, *shapes)
    assert counted(jax.jit(jnp.matmul), *shapes) == once
    assert counted(jax.checkpoint(jnp.matmul), *shapes) == once
    assert counted(lambda a, b: jax.lax.cond(a[0, 0] > 0, jnp.matmul, jnp.add, a, b), *shapes) == once
    assert counted(lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, length=3)[0], *shapes) == 3 * once
    assert counted(jax.value_and_grad(lambda a, b: jnp.matmul(a, b).sum(), (0, 1)), *shapes) == 3 * once


def test_what_is_not_used_does_not_count():
    once = counted(jnp.matmul, (4, 4), (4, 4))
    # The gradient of a sum of products does not depend on the products.
    assert counted(jax.grad(lambda a, b: jnp.matmul(a, b).sum(), (0, 1)), (4, 4), (4, 4)) == 2 * once
    assert counted(lambda a, b: (a @ b, a @ b @ b)[0], (4, 4), (4, 4)) == once


def test_the_gradient_of_a_convolution_of_an_upsampled_image_by_hand():
    def loss(x, kernel):
        return (ops.conv(x, kernel, size=(16, 16)) ** 2).sum()

    # The output, and the gradients of the image and of the kernel.
    assert counted(jax.grad(loss, (0, 1)), (2, 8, 8, 3), (3, 3, 3, 5)) == 3 * 2 * 16 * 16 * 9 * 3 * 5


def test_resnet50_has_the_multiply_adds_of_torchvision():
    module = make_encoder("resnet50", dtype=jnp.float32)
    init = functools.partial(module.init_with_output, jax.random.key(0), train=False)
    # torchvision documents 4.09 billion, which includes 2048 * 1000 of the classifier.
    assert counted(init, (1, 224, 224, 3)) == 4_089_184_256 - 2048 * 1000
