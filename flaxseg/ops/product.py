"""The product of features and a matrix, with a gradient that is fast on the CPU."""

import jax
from jax import lax

from flaxseg.ops.platform import by_platform


@jax.custom_vjp
def product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns the product of features, float[..., C], and a matrix, float[C, O]: float[..., O]."""
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def _forward(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, matrix), (x, matrix)


def _backward(operands: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, matrix = operands
    for_x = lax.dot_general(gradient, matrix, (((x.ndim - 1,), (1,)), ((), ())))
    return for_x, by_platform(x, gradient, cpu=_transposing_the_smaller, default=_matrix_gradient)


def _matrix_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the sum over all places of the outer products of `x` and the output's gradient, float[C, O]."""
    places = tuple(range(x.ndim - 1))
    return lax.dot_general(x, gradient, ((places, places), ((), ())))


def _transposing_the_smaller(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns `_matrix_gradient`, for the CPU.

    XLA's CPU backend transposes the first operand, and computes it in this order, value by value, unless a barrier
    makes that a copy of its own: this can take longer than the product.
    """
    if x.shape[-1] <= gradient.shape[-1]:
        return _matrix_gradient(lax.optimization_barrier(x), gradient)
    return _matrix_gradient(lax.optimization_barrier(gradient), x).T


product.defvjp(_forward, _backward)
