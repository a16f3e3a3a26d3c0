"""Rematerialization: activations that the backward pass computes again, which takes time, instead of storing them."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from flaxseg.errors import ArgumentError, check_choice
from flaxseg.models.layers.conv import Conv, ConvTranspose
from flaxseg.models.layers.normalization import BatchNorm
from flaxseg.models.protocol import ModelWrapper, SegmentationModel

Policy = Callable[..., Any]
"""Decides which values within a block are stored; see `jax.checkpoint_policies`."""

_PRODUCT = "product"
"""The name of the outputs of convolutions and dense layers."""

_HOST_MEMORY = "pinned_host"


def _with_sums(policy: Policy) -> Policy:
    """Returns a policy that also stores sums over axes.

    They are small, and to compute batch statistics again, several devices would have to communicate again.
    """
    return lambda primitive, *avals, **params: primitive.name == "reduce_sum" or policy(primitive, *avals, **params)


REMAT: Mapping[str, Policy | None] = MappingProxyType(
    {
        "none": None,
        "convolutions": _with_sums(jax.checkpoint_policies.save_only_these_names(_PRODUCT)),
        "blocks": _with_sums(jax.checkpoint_policies.nothing_saveable),
        "offload": _with_sums(
            jax.checkpoint_policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=[_PRODUCT],
                offload_src="device",
                offload_dst=_HOST_MEMORY,
            )
        ),
    }
)
"""What each block stores besides its inputs, by name:

- "none": everything that the backward pass reads; nothing is computed again.
- "convolutions": the outputs of convolutions and dense layers. Normalizations, activations and attention are computed
  again.
- "blocks": nothing. All of the block is computed again, which takes the least memory, and a third more time.
- "offload": as "convolutions", but stored in the host's memory, for accelerators.
"""


def rematerialize(model: SegmentationModel, policy: str) -> SegmentationModel:
    """Returns a network with the same values and gradients, whose training takes less memory and more time.

    Its blocks, which are the modules directly below its own and below those called `encoder` and `decoder`, store only
    what the policy names (Chen et al. 2016, https://arxiv.org/abs/1604.06174). XLA's CPU backend ignores this unless
    the step is compiled with `compiler_options=flaxseg.compiler_options(remat=True)`.

    Args:
      model: the network. If parts of it are frozen, give the result to `freeze`, and not the reverse.
      policy: a name of REMAT.

    Raises:
      ArgumentError: the policy is unknown, or the device has no memory on the host.
    """
    check_choice("policy", policy, tuple(REMAT))
    if policy == "offload" and _HOST_MEMORY not in {memory.kind for memory in jax.devices()[0].addressable_memories()}:
        raise ArgumentError(
            "policy", policy, f"{jax.devices()[0].device_kind} cannot use the host's memory; use 'convolutions'"
        )
    return model if policy == "none" else _Rematerialized(model, policy)


@dataclasses.dataclass(frozen=True)
class _Rematerialized(ModelWrapper):
    policy: str

    containers: ClassVar = frozenset({"encoder", "decoder"})
    products: ClassVar = (Conv, ConvTranspose, nn.Conv, nn.ConvTranspose, nn.DenseGeneral, nn.Dense)
    norms: ClassVar = (BatchNorm, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm)

    def apply(self, variables: Any, *args: Any, train: bool, **kwargs: Any) -> Any:
        if not train:
            return super().apply(variables, *args, train=train, **kwargs)
        entered: set[tuple[str, ...]] = set()

        def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            block = context.module
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if isinstance(block, self.products):
                return checkpoint_name(call(*args, **kwargs), _PRODUCT)
            if block.path in entered or not self._is_block(block):
                return call(*args, **kwargs)
            entered.add(block.path)
            output = _call_block(block, args, kwargs, REMAT[self.policy])
            entered.remove(block.path)
            return output

        with nn.intercept_methods(intercept):
            return super().apply(variables, *args, train=train, **kwargs)

    def _is_block(self, module: nn.Module) -> bool:
        *outer, name = module.path or ("",)
        is_container = not name or name in self.containers
        return self.containers.issuperset(outer) and not is_container and not isinstance(module, self.norms)


def _call_block(block: nn.Module, args: Any, kwargs: Any, policy: Policy | None) -> Any:
    """Calls a module whose activations are stored by a policy."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    arrays = {number: leaf for number, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}

    def call(block: nn.Module, arrays: Mapping[int, jax.Array]) -> Any:
        # What is not an array, such as `train`, is not traced, because the block branches on it.
        given = [arrays.get(number, leaf) for number, leaf in enumerate(leaves)]
        args, kwargs = jax.tree.unflatten(structure, given)
        return block(*args, **kwargs)  # type: ignore[operator]

    return nn.remat(call, policy=policy)(block, arrays)
