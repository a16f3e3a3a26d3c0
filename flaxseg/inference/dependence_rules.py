"""How each primitive passes marks on: from elements of its operands to the elements of its results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from flaxseg.inference import patterns
from flaxseg.inference.dependence import Dependence
from flaxseg.inference.patterns import Pattern

Masks = tuple[Pattern, Pattern]
"""The marked and the nonzero elements of an output."""


def output_shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    """Returns the shape of each output of an equation."""
    avals: list[Any] = [variable.aval for variable in equation.outvars]
    return [tuple(aval.shape) for aval in avals]


def _reshape(params: dict[str, Any], x: Dependence, mask: Pattern, out: Sequence[int]) -> Pattern | None:
    return patterns.reshape(mask, x.shape, out) if params["dimensions"] is None else None


def _dynamic_slice(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks] | None:
    x, *starts = inputs
    sizes = equation.params["slice_sizes"]
    if not all(s.value is not None or x.marked.shape[i] == 1 for i, s in enumerate(starts)):
        return None
    first = [0 if s.value is None else int(np.clip(s.value, 0, x.shape[i] - sizes[i])) for i, s in enumerate(starts)]
    ends = [start + size for start, size in zip(first, sizes, strict=True)]
    return [(patterns.take_slice(x.marked, first, ends), patterns.uniform(True, len(sizes)))]


def _gather(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks] | None:
    x, indices = inputs
    params, numbers = equation.params, equation.params["dimension_numbers"]
    if indices.value is None:
        return None
    taken = {*numbers.start_index_map, *numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    sizes = list(params["slice_sizes"])
    whole = [i for i, n in enumerate(x.shape) if i not in taken and sizes[i] == n]

    def pattern(mask: Pattern) -> Pattern:
        kept = [i for i in whole if mask.shape[i] == 1]
        mask = patterns.expand(mask, x.shape, [i for i in range(mask.ndim) if i not in kept])
        lengths = [1 if i in kept else size for i, size in enumerate(sizes)]
        result = lax.gather(
            mask, indices.value, numbers, lengths, mode=params["mode"], fill_value=False, unique_indices=False
        )
        return patterns.compress(np.asarray(result))

    return [(pattern(x.marked), pattern(x.nonzero))]


def _structural(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks] | None:
    """Applies an operation that only moves the elements of one array."""
    (x,), out = inputs[:1], output_shapes(equation)[0]
    rule = STRUCTURAL[equation.primitive.name]
    marked, nonzero = (rule(equation.params, x, mask, out) for mask in (x.marked, x.nonzero))
    return None if marked is None or nonzero is None else [(marked, nonzero)]


STRUCTURAL: dict[str, Any] = {
    "reshape": _reshape,
    "transpose": lambda params, x, mask, out: mask.transpose(params["permutation"]),
    "squeeze": lambda params, x, mask, out: mask.squeeze(params["dimensions"]),
    "expand_dims": lambda params, x, mask, out: np.expand_dims(mask, params["dimensions"]),
    "rev": lambda params, x, mask, out: np.flip(mask, params["dimensions"]),
    "broadcast_in_dim": lambda params, x, mask, out: patterns.broadcast(
        mask, len(out), params["broadcast_dimensions"]
    ),
    "slice": lambda params, x, mask, out: patterns.take_slice(
        mask, params["start_indices"], params["limit_indices"], params["strides"]
    ),
    **dict.fromkeys(
        ("convert_element_type", "copy", "copy_p", "neg", "abs", "reduce_precision", "stop_gradient", "sqrt", "sign",
         "square", "device_put", "sharding_constraint"),
        lambda params, x, mask, out: mask,
    ),
}  # fmt: skip
"""Operations of one array that move its elements, or change each of them and keep zeros."""


def _split(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    (x,), axis = inputs, equation.params["axis"]
    stops = np.cumsum(equation.params["sizes"])
    outputs = []
    for start, stop in zip((0, *stops[:-1]), stops, strict=True):
        low, high = [0] * len(x.shape), list(x.shape)
        low[axis], high[axis] = int(start), int(stop)
        outputs.append((patterns.take_slice(x.marked, low, high), patterns.take_slice(x.nonzero, low, high)))
    return outputs


def _concatenate(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    shapes, axis = [x.shape for x in inputs], equation.params["dimension"]
    marked = patterns.concatenate([x.marked for x in inputs], shapes, axis)
    return [(marked, patterns.concatenate([x.nonzero for x in inputs], shapes, axis))]


def _pad(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    (x, fill), config = inputs, equation.params["padding_config"]
    marked = patterns.pad(x.marked, x.shape, bool(fill.marked), config, keep_uniform=True)
    return [(marked, patterns.pad(x.nonzero, x.shape, bool(fill.nonzero), config))]


def _elementwise(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    ndim = len(output_shapes(equation)[0])
    marked = patterns.compress(patterns.union(patterns.uniform(False, ndim), *(x.marked for x in inputs)))
    return [(marked, patterns.uniform(True, ndim))] * len(equation.outvars)


def _multiply(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    a, b = inputs
    marked = patterns.compress((a.marked & b.nonzero) | (b.marked & a.nonzero))
    return [(marked, patterns.compress(a.nonzero & b.nonzero))]


def _barrier(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    return [(x.marked, x.nonzero) for x in inputs]


def _reduce(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    marked = patterns.any_along(patterns.union(*(x.marked for x in inputs)), equation.params["axes"])
    marked = patterns.compress(marked)
    return [(marked, patterns.uniform(True, marked.ndim))] * len(equation.outvars)


def _cumulative(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    (x,), params = inputs, equation.params
    marked = patterns.accumulate(x.marked, x.shape, params["axis"], params["reverse"])
    return [(marked, patterns.uniform(True, marked.ndim))]


def _sort(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    axis = equation.params.get("dimension", equation.params.get("axis", -1))
    marked = patterns.any_along(patterns.union(*(x.marked for x in inputs)), axis, keepdims=True)
    return [(patterns.compress(marked), patterns.uniform(True, marked.ndim))] * len(equation.outvars)


def _matrix_product(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks]:
    (a, b), dimensions = inputs, equation.params["dimension_numbers"]
    shapes = (a.shape, b.shape)
    ways = [(a.marked, b.nonzero), (a.nonzero, b.marked)]
    found = [patterns.contract(x, y, shapes, dimensions) for x, y in ways if x.any() and y.any()]
    marked = patterns.compress(patterns.union(patterns.uniform(False, found[0].ndim), *found))
    return [(marked, patterns.uniform(True, marked.ndim))]


def _convolution(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks] | None:
    (x, kernel), params = inputs, equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if kernel.marked.any() or params["batch_group_count"] != 1:
        return None
    marked = x.marked.transpose(numbers.lhs_spec)
    size = [x.shape[i] for i in numbers.lhs_spec[2:]]
    if marked.shape[1] > 1:
        per_group = marked.reshape(marked.shape[0], groups, -1, *marked.shape[2:]).any(2)
        outputs = kernel.shape[numbers.rhs_spec[0]]
        marked = np.repeat(per_group, 1 if groups == 1 else outputs // groups, 1)
    spaces = [(0, 0, 0)] * 2 + [(0, 0, dilation - 1) for dilation in params["lhs_dilation"]]
    marked = patterns.pad(marked, (*marked.shape[:2], *size), False, spaces, keep_uniform=True)
    result = patterns.convolve(
        marked,
        [(n - 1) * dilation + 1 for n, dilation in zip(size, params["lhs_dilation"], strict=True)],
        patterns.any_along(kernel.nonzero.transpose(numbers.rhs_spec), 1),
        taps=[kernel.shape[i] for i in numbers.rhs_spec[2:]],
        strides=params["window_strides"],
        pads=params["padding"],
        dilation=params["rhs_dilation"],
    )
    result = result.transpose(np.argsort(numbers.out_spec))
    return [(result, patterns.uniform(True, result.ndim))]


def _window_reduction(equation: JaxprEqn, inputs: Sequence[Dependence]) -> list[Masks] | None:
    x, params = inputs[0], equation.params
    if any(d != 1 for d in params["base_dilation"]):
        return None
    result = patterns.convolve(
        x.marked[None, None],
        x.shape,
        patterns.uniform(True, 1 + len(x.shape)),
        taps=params["window_dimensions"],
        strides=params["window_strides"],
        pads=params["padding"],
        dilation=params["window_dilation"],
    )[0, 0]
    return [(result, patterns.uniform(True, result.ndim))]


# fmt: off
ELEMENTWISE = (
    "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2",
    "atanh", "cbrt", "ceil", "clamp", "cos", "cosh", "digamma", "div", "eq",
    "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge",
    "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic",
    "lt", "max", "min", "nextafter", "ne", "not", "or", "pow", "real",
    "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sin", "sinh",
    "sub", "tan", "tanh", "xor",
)
# fmt: on
"""Operations each of whose elements depends on the same element of every operand."""

RULES: dict[str, Any] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(STRUCTURAL, _structural),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin"),
        _reduce,
    ),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _window_reduction),
    "mul": _multiply,
    "pad": _pad,
    "concatenate": _concatenate,
    "split": _split,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "sort": _sort,
    "optimization_barrier": _barrier,
    "dot_general": _matrix_product,
    "conv_general_dilated": _convolution,
}
"""For each primitive, the function of its equation and inputs that returns the patterns of its outputs; None: all."""
