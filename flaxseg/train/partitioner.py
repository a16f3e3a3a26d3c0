"""Workarounds for XLA's partitioner, which computes some sharded convolutions wrongly and without an error.

With jax 0.10.2 and 0.12.0 on the CPU backend, the gradients of a residual block are wrong in these cases:

- kernels are split over `fsdp`, rows of images over `spatial`, and each device has one example of a few rows;
- features have fewer rows than the number of devices that they are split over.

tests/train/test_partitioner.py reproduces both cases and fails once XLA computes them correctly.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from flaxseg.models.protocol import ModelWrapper, SegmentationModel
from flaxseg.ops.example_sum import examples_split_over
from flaxseg.train.sharding import EXAMPLES, batch_divisor, example_sharding, replicated


def partition_safely(model: SegmentationModel, mesh: Mesh) -> SegmentationModel:
    """Returns a network that gathers what XLA's partitioner would otherwise compute wrongly.

    Parameters split over `fsdp` are gathered before they are used, which is what fully sharded data parallelism means
    (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): only their storage is split. Rows of features split
    over `spatial` are gathered where a shard would have too few of them for the kernel.
    """
    is_split = mesh.shape["fsdp"] > 1 or mesh.shape["spatial"] > 1
    return _Gathering(model, mesh) if is_split else model


def reduce_once(mesh: Mesh) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which the training step has to be traced, so that each gradient is all-reduced once.

    On the CPU, a kernel's gradient is a sum over chunks of rows, and XLA would reduce each term. Where rows are split
    between devices, it is not computed in chunks, so that XLA exchanges rows at far fewer places.
    """
    rows = mesh.shape["spatial"] > 1
    is_split = rows or batch_divisor(mesh) > 1
    return examples_split_over(mesh, EXAMPLES, rows=rows) if is_split else contextlib.nullcontext()


@dataclasses.dataclass(frozen=True)
class _Gathering(ModelWrapper):
    mesh: Mesh

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        whole = jax.lax.with_sharding_constraint(variables, replicated(self.mesh))
        with nn.intercept_methods(self._call):
            return super().apply(whole, *args, **kwargs)

    def _call(self, call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        """Calls a layer, with its input's rows gathered where a shard of them would be too small for its kernel."""
        kernel_size = getattr(context.module, "kernel_size", None)
        if kernel_size is None or not all(getattr(x, "ndim", 0) == 4 for x in args):
            return call(*args, **kwargs)
        extent = np.max(getattr(context.module, "dilation", 1)) * (np.max(kernel_size) - 1) + 1
        shards = self.mesh.shape["spatial"]
        too_few = [shards > 1 and x.shape[1] < 2 * extent * shards for x in args]
        args = [self._gather_rows(x) if few else x for x, few in zip(args, too_few, strict=True)]
        output = call(*args, **kwargs)
        return self._gather_rows(output) if any(too_few) else output

    def _gather_rows(self, x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, example_sharding(self.mesh))
