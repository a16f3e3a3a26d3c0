"""The types that an export stores weights in: float32, float16, or 8-bit integers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.errors import ExportError
from flaxseg.models.protocol import Variables

WEIGHTS = ("float32", "float16", "int8")
"""How weights are stored; programs compute in float32 with all of them."""

TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "int8": 0.25}
"""The largest difference from the network's outputs that is accepted, relative to its largest logit."""

_KERNEL, _SCALE = "kernel", ":scale"


class Int8Kernel(NamedTuple):
    """A kernel as 8-bit integers, `values * scale`.

    Attributes:
      values: int8[..., O], -127..127.
      scale: float32[O], one number per output channel.
    """

    values: Any
    scale: Any


def stored_weights(variables: Variables, kind: str) -> Variables:
    """Returns variables as an export stores them; batch statistics stay float32.

    Args:
      variables: `params` and perhaps `batch_stats`, numpy arrays of float32.
      kind: "float32"; "float16" for all parameters; or "int8" for the kernels of convolutions and dense layers, each as
        an `Int8Kernel`, rounded symmetrically per output channel
        (https://arxiv.org/abs/1712.05877, without the quantization of activations).

    Raises:
      ExportError: a parameter is not finite, or too large for float16.
    """
    if kind == "float16":
        return {**variables, "params": _half_precision(variables["params"])}
    if kind == "int8":
        flat = traverse_util.flatten_dict(dict(variables["params"]))
        small = {path: _int8(value) if _is_kernel(path, value) else value for path, value in flat.items()}
        return {**variables, "params": traverse_util.unflatten_dict(small)}
    return variables


def full_precision(variables: Variables) -> Variables:
    """Returns stored weights as float32, computed by JAX, so that a program that is traced stores them as they are."""
    return jax.tree.map(_float32, variables, is_leaf=lambda leaf: isinstance(leaf, Int8Kernel))


def named_arrays(variables: Variables) -> dict[str, np.ndarray]:
    """Returns stored weights as arrays by name, such as `params/head/kernel` and `params/head/kernel:scale`."""
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items():
        if isinstance(leaf, Int8Kernel):
            arrays[path], arrays[path + _SCALE] = leaf
        else:
            arrays[path] = leaf
    return {path: np.ascontiguousarray(value) for path, value in arrays.items()}


def dequantized(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays by name with every kernel that has a scale as float32, and without the scales."""
    kernels = {path: value for path, value in arrays.items() if not path.endswith(_SCALE)}
    return {
        path: value.astype(np.float32) * arrays[path + _SCALE] if path + _SCALE in arrays else value
        for path, value in kernels.items()
    }


def _half_precision(params: Any) -> Any:
    largest = _largest(params)
    limit = float(np.finfo(np.float16).max)
    if not largest <= limit:
        raise ExportError(f"a parameter is {largest:g}, and float16 ends at {limit:g}; export the weights as float32")
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), params)


def _int8(kernel: np.ndarray) -> Int8Kernel:
    if not np.isfinite(_largest(kernel)):
        raise ExportError("a parameter is not finite, and 8-bit integers are; export the weights as float32")
    largest = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return Int8Kernel(np.rint(kernel / scale).astype(np.int8), scale)


def _is_kernel(path: tuple[str, ...], value: np.ndarray) -> bool:
    return path[-1] == _KERNEL and value.ndim > 1


def _largest(params: Any) -> float:
    return max(float(np.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(params))


def _float32(leaf: Any) -> jax.Array:
    if isinstance(leaf, Int8Kernel):
        return jnp.asarray(leaf.values).astype(jnp.float32) * jnp.asarray(leaf.scale)
    return jnp.asarray(leaf).astype(jnp.float32)
