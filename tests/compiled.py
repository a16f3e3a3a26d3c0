"""Methods of modules as one program each: without it, JAX compiles every operation by itself, which takes longer."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `init`, `apply` or another method of a module, compiled; only arrays and dicts of them may vary."""

    def call(*arrays: Any, **options: Any) -> Any:
        varying = {name: value for name, value in options.items() if isinstance(value, jax.Array | np.ndarray | dict)}
        fixed = {name: value for name, value in options.items() if name not in varying}
        return jax.jit(functools.partial(method, **fixed))(*arrays, **varying)

    return call
