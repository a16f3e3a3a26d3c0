"""Batch statistics of a whole batch, for BatchNorm layers that see one micro-batch at a time."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxseg.errors import ArgumentError
from flaxseg.models.layers.normalization import BatchNorm
from flaxseg.models.protocol import ModelWrapper

COLLECTION = "whole_batch"
"""The collection of variables that holds the mean and the biased variance of each BatchNorm layer's input."""


@dataclasses.dataclass(frozen=True)
class _ForEachBatchNorm(ModelWrapper):
    """A model whose BatchNorm layers are called by `call_layer`."""

    layers: ClassVar = (BatchNorm, nn.BatchNorm)

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(self._intercept):
            return super().apply(variables, *args, **kwargs)

    def _intercept(
        self, call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        layer = context.module
        # Without a path, the layer is a detached copy made by `call_layer`.
        if not layer.path or not isinstance(layer, self.layers) or context.method_name != "__call__":
            return call(*args, **kwargs)
        return self.call_layer(layer, call, *args, **kwargs)

    def call_layer(self, layer: Any, call: Callable[..., Any], x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """Returns the normalized features; `call` is the layer's own method."""
        raise NotImplementedError


class WithStatistics(_ForEachBatchNorm):
    """A model that writes the statistics of its batch to COLLECTION, where that is mutable.

    Layers that do not normalize by the statistics of their batch, such as frozen ones, write none.
    """

    def call_layer(self, layer: Any, call: Callable[..., Any], x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer, and writes what it normalizes by."""
        before = layer.get_variable("batch_stats", "mean")
        output = call(x, *args, **kwargs)
        if layer.get_variable("batch_stats", "mean") is before:
            return output
        if layer.has_variable(COLLECTION, "mean") or getattr(layer, "axis", -1) != -1:
            raise ArgumentError(
                "batch_statistics",
                "whole_batch",
                f"the layer {'/'.join(layer.path)} is called twice, or its channels are not the last axis; use "
                "'micro_batches'",
            )
        # Without momentum, the running statistics are those of the batch.
        alone = layer.clone(parent=None, momentum=0.0)
        _, found = alone.apply(layer.variables, x, *args, **kwargs, mutable=["batch_stats"])
        count = x.size // x.shape[-1]
        biased = (count - 1) / count if isinstance(layer, BatchNorm) else 1.0
        layer.put_variable(COLLECTION, "mean", found["batch_stats"]["mean"])
        layer.put_variable(COLLECTION, "var", found["batch_stats"]["var"] * biased)
        return output


class NormalizedByWholeBatch(_ForEachBatchNorm):
    """A model that normalizes by the statistics in COLLECTION, and leaves the running statistics unchanged.

    The gradient through the statistics is that of a micro-batch's own share in them: the derivative of a sum over the
    whole batch that consists of copies of the micro-batch.
    """

    def call_layer(self, layer: Any, call: Callable[..., Any], x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """Normalizes by the given statistics; calls the layer if there are none."""
        if not layer.has_variable(COLLECTION, "mean"):
            return call(x, *args, **kwargs)
        mean, var = _as_function_of(x, layer.get_variable(COLLECTION, "mean"), layer.get_variable(COLLECTION, "var"))
        variables = {**layer.variables, "batch_stats": {"mean": mean, "var": var}}
        return layer.clone(parent=None, use_running_average=True).apply(variables, x)


@jax.custom_vjp
def _as_function_of(x: jax.Array, mean: jax.Array, var: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the variance, whose derivatives are those of `x.mean()` and `((x - mean) ** 2).mean()`."""
    return mean, var


def _forward(x: jax.Array, mean: jax.Array, var: jax.Array) -> tuple[Any, Any]:
    return (mean, var), (x, mean)


def _backward(residuals: tuple[jax.Array, jax.Array], gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
    (x, mean), (of_mean, of_var) = residuals, gradients
    of_x = (of_mean + 2 * (x - mean) * of_var) / (x.size // x.shape[-1])
    return of_x.astype(x.dtype), jnp.zeros_like(mean), jnp.zeros_like(mean)


_as_function_of.defvjp(_forward, _backward)
