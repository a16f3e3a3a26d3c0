"""Where state and batches live: one mesh of named axes, the same program on one device or many."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxseg.data.types import Batch
from flaxseg.errors import ConfigError

AXES = ("data", "fsdp", "spatial")
"""Batches split over `data` and `fsdp`, parameters over `fsdp`, rows of pictures over `spatial`."""


def make_mesh(*, data: int = -1, fsdp: int = 1, spatial: int = 1, batch_sizes: dict[str, int] | None = None) -> Mesh:
    """Returns a mesh over this program's devices, all processes together.

    Args:
      data: parts that a batch is split into; -1 takes the devices that the others leave.
      fsdp: parts that parameters, and the batch as well, are split into.
      spatial: parts that the rows of pictures are split into.
      batch_sizes: batch sizes that have to divide, by their key.

    Raises:
      ConfigError: the parts do not fit the devices, or a batch does not divide into its parts.
    """
    devices = jax.device_count()
    if data == -1:
        data = max(devices // (fsdp * spatial), 1)
    if data * fsdp * spatial > devices or devices % (data * fsdp * spatial):
        raise ConfigError(
            f"config.mesh: data = {data}, fsdp = {fsdp}, spatial = {spatial} need {data * fsdp * spatial} devices or "
            f"a divisor of what there is: {devices}. Set config.mesh.data = -1 and the others to divisors of {devices}"
        )
    messages = [
        f"{key} = {size}: does not divide over {data * fsdp} devices (mesh.data = {data} times mesh.fsdp = {fsdp}); "
        f"use a multiple of it, such as {-(-size // (data * fsdp)) * data * fsdp}, or a smaller config.mesh.data"
        for key, size in (batch_sizes or {}).items()
        if size % (data * fsdp)
    ]
    if messages:
        raise ConfigError("\n".join(messages))
    chosen = np.asarray(jax.devices()[: data * fsdp * spatial])
    # Explicit axes, make_mesh's default, would ask every operation of a network for its output's placement.
    return Mesh(chosen.reshape(data, fsdp, spatial), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the placement of `image` and `label`: examples over data and fsdp, rows over spatial."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "spatial"))


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Returns a batch on the devices; with several processes each gives its own share of the examples."""
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    whole = batch_sharding(mesh)

    def place(value: np.ndarray) -> jax.Array:
        # `size` has no rows of pixels, and a label at its own resolution may have a number that does not divide.
        splits = value.ndim > 2 and value.shape[1] % mesh.shape["spatial"] == 0
        return jax.make_array_from_process_local_data(whole if splits else rows, value)

    return {key: place(value) for key, value in batch.items()}


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the placement of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Returns a placement for each array of a state, given as arrays or shapes.

    Arrays of two or more axes are split over `fsdp` along the last axis that divides, which for a kernel is its
    output channels; what does not divide is replicated. A network that is applied to such parameters has to be
    gathered() first.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or len(leaf.shape) < 2 or not axes:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*(None,) * axes[-1], "fsdp"))

    return jax.tree.map(place, state)


def gathered(model: nn.Module, mesh: Mesh) -> nn.Module:
    """Returns a network that brings together what XLA's partitioner would otherwise compute wrongly in parts.

    Parameters split over `fsdp` are whole on each device before they are used, which is what fully sharded data
    parallelism means (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): only storage is split. And the rows
    of features that are split over `spatial` are whole where a part would hold fewer of them than a kernel reaches.
    Left to itself, the partitioner splits these convolutions too, and gives wrong gradients for some and fails on
    others (seen with jax 0.10.2 and 0.12.0).
    """
    is_split = mesh.shape["fsdp"] > 1 or mesh.shape["spatial"] > 1
    return cast(nn.Module, _Gathered(model, mesh)) if is_split else model


@dataclasses.dataclass(frozen=True)
class _Gathered:
    model: nn.Module
    mesh: Mesh

    def apply(self, variables: Any, *arguments: Any, **keywords: Any) -> Any:
        """As flax.linen.Module.apply, of variables that each device holds whole."""
        whole = jax.lax.with_sharding_constraint(variables, replicated(self.mesh))
        with nn.intercept_methods(self._with_whole_rows):
            return self.model.apply(whole, *arguments, **keywords)

    def _with_whole_rows(
        self, call: Callable[..., Any], inputs: Any, keywords: Any, context: nn.module.InterceptorContext
    ) -> Any:
        """Calls a layer on features whose rows are not split where a part of them would be too small for its kernel."""
        kernel_size = getattr(context.module, "kernel_size", None)
        if kernel_size is None or not all(getattr(x, "ndim", 0) == 4 for x in inputs):
            return call(*inputs, **keywords)
        reach = np.max(getattr(context.module, "dilation", 1)) * (np.max(kernel_size) - 1) + 1
        examples = NamedSharding(self.mesh, PartitionSpec(("data", "fsdp")))
        parts = self.mesh.shape["spatial"]
        few = [parts > 1 and x.shape[1] < 2 * reach * parts for x in inputs]
        placed = [
            jax.lax.with_sharding_constraint(x, examples) if too_few else x
            for x, too_few in zip(inputs, few, strict=True)
        ]
        made = call(*placed, **keywords)
        return jax.lax.with_sharding_constraint(made, examples) if any(few) else made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)
