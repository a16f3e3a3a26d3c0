"""Counts the multiply-adds of a function from its program, without running or compiling it."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr


def multiply_adds(program: Jaxpr | ClosedJaxpr) -> int:
    """Returns the multiply-adds of a program's convolutions and matrix products; FLOPs are twice as many.

    Convolutions count every tap, including taps on padding. Transposed convolutions do not count the zeros between
    input pixels. Operations whose results are not used, which XLA removes, do not count. A condition counts as its most
    expensive branch, `lax.platform_dependent` as its default, and the body of a loop of unknown length once.

    Args:
      program: what `jax.make_jaxpr(function)(*arguments)` returns; the arguments can be `jax.ShapeDtypeStruct`s.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    used, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return sum(map(_equation_cost, used.eqns))


def _equation_cost(equation: JaxprEqn) -> int:
    parameters = equation.params
    match equation.primitive.name:
        case "conv_general_dilated":
            return _convolution_cost(equation)
        case "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left, _, out = _arrays(equation)
            return out.size * math.prod(left.shape[axis] for axis in contracted)
        case "cond":
            return _branches_cost(parameters["branches"], parameters.get("branches_platforms") or ())
        case "scan":
            return parameters["length"] * multiply_adds(parameters["jaxpr"])
    return sum(map(multiply_adds, _inner_programs(parameters.values())))


def _convolution_cost(equation: JaxprEqn) -> int:
    _, kernel, out = _arrays(equation)
    features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return out.size * (kernel.size // features) // math.prod(equation.params["lhs_dilation"])


def _arrays(equation: JaxprEqn) -> Iterator[Any]:
    """Returns the abstract inputs and outputs, which have `shape` and `size`."""
    return (variable.aval for variable in (*equation.invars, *equation.outvars))


def _branches_cost(branches: tuple[ClosedJaxpr, ...], platforms: tuple[tuple[str, ...] | None, ...]) -> int:
    # Implementations for one platform may multiply without a convolution or matrix product, or multiply zeros.
    if None in platforms:
        return multiply_adds(branches[platforms.index(None)])
    return max(map(multiply_adds, branches))


def _inner_programs(values: Iterable[Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    """Yields the programs within an equation, such as that of a jitted function or a rematerialization."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _inner_programs(value)
        elif isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
