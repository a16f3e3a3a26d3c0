"""What depends on the platform that runs a program: the form of some operations, and the compiler's options."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax

_plain = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_forms() -> Iterator[None]:
    """Makes every operation traced in the `with` block use its one form for all platforms.

    Outside of it, some operations have a faster form for the CPU, and the program chooses when it is compiled. Formats
    that have no such choice, such as ONNX, need the plain form. Functions that `jax.jit` has already traced keep the
    form that they were traced with.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def uses_plain_forms() -> bool:
    """Returns whether the caller is traced in a `with plain_forms()` block."""
    return _plain.get()


def by_platform(*operands: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """Returns `cpu(*operands)` in programs compiled for the CPU, and `default(*operands)` in others.

    In a `with plain_forms()` block it is `default(*operands)` in all of them. The two functions compute the same.
    """
    if uses_plain_forms():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def compiler_options(*, remat: bool = False, runs_once: bool = False, platform: str = "") -> dict[str, Any]:
    """Returns options for `jax.jit(..., compiler_options=)`, with which programs for the CPU take less memory or time.

    By default, XLA orders the operations such that independent ones can run at once. On the CPU, where most operations
    use all cores by themselves, this is no faster, and takes up to 1.8 times as much memory for intermediate results.
    It also merges computations that `jax.lax.optimization_barrier` keeps apart to save memory, in `train_step` and in
    rematerialization. Of functions within functions, only the outermost `jax.jit` can have options.

    Args:
      remat: whether the program computes activations again, as networks of `flaxseg.rematerialize` do. XLA's default
        order then takes less memory.
      runs_once: whether the program runs only once, such as `create_train_state`. It is then optimized less, which
        takes a quarter to a half of the time to compile.
      platform: the platform that runs the program, such as "cpu"; "" for JAX's default. On all but the CPU, there is no
        option to set.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    if runs_once:
        return {"xla_backend_optimization_level": "1"}
    options = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return options if remat else options | {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
