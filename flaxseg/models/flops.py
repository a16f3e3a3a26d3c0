"""How much a function multiplies, counted from its program without running or compiling it."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def multiply_adds(program: Jaxpr | ClosedJaxpr) -> int:
    """The multiply-adds of a program's convolutions and matrix products; FLOPs are twice as many.

    Convolutions count every tap, also where it falls on padding; transposed ones do not count the zeros between what
    they were given. Of the branches of a condition the most expensive one counts; of forms for several platforms, the
    one for all others. The body of a loop of unknown length counts once.

    Args:
      program: what `jax.make_jaxpr(function)(*arguments)` returns; `jax.ShapeDtypeStruct`s will do as arguments.
    """
    return sum(map(_of_equation, program.eqns))


def _of_equation(equation: JaxprEqn) -> int:
    parameters = equation.params
    match equation.primitive.name:
        case "conv_general_dilated":
            return _of_convolution(equation)
        case "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left, _, out = _arrays(equation)
            return out.size * math.prod(left.shape[axis] for axis in contracted)
        case "cond":
            return _of_branches(parameters["branches"], parameters.get("branches_platforms") or ())
        case "scan":
            return parameters["length"] * multiply_adds(parameters["jaxpr"])
    return sum(map(multiply_adds, _programs(parameters.values())))


def _of_convolution(equation: JaxprEqn) -> int:
    _, kernel, out = _arrays(equation)
    features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return out.size * (kernel.size // features) // math.prod(equation.params["lhs_dilation"])


def _arrays(equation: JaxprEqn) -> Iterator[Any]:
    """What goes in, and what comes out: each has `shape` and `size`."""
    return (variable.aval for variable in (*equation.invars, *equation.outvars))


def _of_branches(branches: tuple[ClosedJaxpr, ...], platforms: tuple[tuple[str, ...] | None, ...]) -> int:
    # Forms for one platform may multiply outside of convolutions, or by zeros.
    if None in platforms:
        return multiply_adds(branches[platforms.index(None)])
    return max(map(multiply_adds, branches))


def _programs(values: Iterable[Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    """Those inside an equation: of a jitted function, a rematerialisation, a gradient of its own and the like."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _programs(value)
        elif isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
