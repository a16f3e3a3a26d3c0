"""Traces which elements of a program's outputs depend on marked elements of its inputs, without computing values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from flaxseg.inference import patterns
from flaxseg.inference.dependence import Cause, Dependence, constant, unmarked
from flaxseg.inference.dependence_rules import RULES, STRUCTURAL, Masks, output_shapes


def trace(program: ClosedJaxpr, inputs: Sequence[Dependence]) -> list[Dependence]:
    """Returns the dependence of each output of a program, which `jax.make_jaxpr` returns.

    The result is never too small: an operation that is not known makes everything depend on each of its inputs, the
    branches of a condition are united, and padding counts as marked along axes that are marked as a whole. Kernels and
    matrices pass on marks where they can differ from zero.
    """
    return _run(program.jaxpr, _constants(program), inputs, "")


def _run(jaxpr: Jaxpr, consts: Sequence[Dependence], inputs: Sequence[Dependence], path: str) -> list[Dependence]:
    known: dict[Any, Dependence] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Dependence:
        if isinstance(variable, Literal):
            return constant(variable.val)
        return known[variable]

    for equation in jaxpr.eqns:
        layer = "/".join(filter(None, (path, str(equation.source_info.name_stack))))
        outputs = _apply(equation, [read(variable) for variable in equation.invars], layer)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: JaxprEqn, inputs: list[Dependence], layer: str) -> list[Dependence]:
    if "branches" in equation.params:
        runs = [_run(b.jaxpr, _constants(b), inputs[1:], layer) for b in equation.params["branches"]]
        outputs = [_united(alternatives) for alternatives in zip(*runs, strict=True)]
        return outputs if not inputs[0].marked.any() else _everywhere(equation, inputs, layer)
    if equation.primitive.name in CALLS:
        inner = next(equation.params[key] for key in ("jaxpr", "call_jaxpr") if key in equation.params)
        closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
        return _run(closed.jaxpr, _constants(closed), inputs, layer)
    if all(x.value is not None for x in inputs) and sum(map(math.prod, output_shapes(equation))) <= MAX_CONSTANT:
        return _evaluated(equation, inputs)
    if not any(x.marked.any() for x in inputs) and not _keeps_zeros(equation):
        return [unmarked(shape) for shape in output_shapes(equation)]
    rule = RULES.get(equation.primitive.name)
    masks = rule(equation, inputs) if rule else None
    if masks is None:
        return _everywhere(equation, inputs, layer)
    return _with_cause(equation, inputs, masks, layer)


CALLS = (
    "jit",
    "pjit",
    "checkpoint",
    "remat",
    "remat2",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
)
"""Primitives that run an inner program once."""

MAX_CONSTANT = 2**24
"""The number of elements up to which constants are computed."""


def _constants(program: ClosedJaxpr) -> list[Dependence]:
    return [constant(value) for value in program.consts]


def _united(alternatives: Sequence[Dependence]) -> Dependence:
    marked = patterns.compress(patterns.union(*(x.marked for x in alternatives)))
    nonzero = patterns.compress(patterns.union(*(x.nonzero for x in alternatives)))
    cause = next((x.cause for x in alternatives if x.cause), None)
    return Dependence(alternatives[0].shape, marked, nonzero, None, cause)


def _evaluated(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Dependence]:
    result = equation.primitive.bind(*(x.value for x in inputs), **equation.params)
    values = result if equation.primitive.multiple_results else [result]
    return [constant(value) for value in values]


def _everywhere(equation: JaxprEqn, inputs: Sequence[Dependence], layer: str) -> list[Dependence]:
    """Returns that every element of every output depends on all inputs."""
    masks = []
    for ndim in map(len, output_shapes(equation)):
        masks.append((patterns.uniform(any(x.marked.any() for x in inputs), ndim), patterns.uniform(True, ndim)))
    return _with_cause(equation, inputs, masks, layer)


def _with_cause(
    equation: JaxprEqn, inputs: Sequence[Dependence], masks: Sequence[Masks], layer: str
) -> list[Dependence]:
    cause = next((x.cause for x in inputs if x.cause), None)
    name = equation.primitive.name
    if cause is None and name == "dot_general" and _depends_on_position(equation, inputs):
        cause = Cause(layer, name, on_position=True)
    partial = all(not x.marked.all() for x in inputs)
    outputs = []
    for shape, (marked, nonzero) in zip(output_shapes(equation), masks, strict=True):
        spread = partial and math.prod(shape) > 0 and bool(marked.all())
        own = cause or (Cause(layer, name) if spread else None)
        if marked.any():
            outputs.append(Dependence(shape, marked, patterns.uniform(True, len(shape)), None, own))
        else:
            outputs.append(Dependence(shape, marked, nonzero))
    return outputs


def _depends_on_position(equation: JaxprEqn, inputs: Sequence[Dependence]) -> bool:
    """Returns whether a constant matrix has other weights at one position of an axis than at the next.

    A matrix that resizes an axis by f / d repeats after f rows and d columns, but for a few rows at its ends. One that
    aligns the corners of images repeats nowhere.
    """
    (contracted, _) = equation.params["dimension_numbers"]
    for image, matrix, axes, own in zip(inputs, inputs[::-1], contracted, contracted[::-1], strict=True):
        if matrix.value is None or matrix.value.ndim != 2 or len(axes) != 1 or image.marked.shape[axes[0]] == 1:
            continue
        weights = np.moveaxis(matrix.value, own[0], 1)
        divisor = int(np.gcd(*weights.shape))
        rows, columns = (length // divisor for length in weights.shape)
        edge = min(divisor // 4, 8)
        inner = weights[edge * rows : weights.shape[0] - edge * rows]
        difference = inner[rows:, columns:] - inner[:-rows, :-columns]
        if divisor < 8 or np.abs(difference).max() > 1e-5 * np.abs(weights).max():
            return True
    return False


def _keeps_zeros(equation: JaxprEqn) -> bool:
    """Returns whether zeros of a parameter, such as the padding of a kernel, are at known places in the result."""
    return equation.primitive.name in (*STRUCTURAL, "pad", "concatenate")
