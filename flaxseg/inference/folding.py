"""Batch normalization folded into the convolution before it, for exported programs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import BatchNorm
from flaxseg.models.pretrained.mapped_file import aligned
from flaxseg.models.protocol import ModelWrapper, SegmentationModel, Variables

Path = tuple[str, ...]
"""The names of a module and of those that contain it."""


@dataclasses.dataclass(frozen=True)
class FoldedModel(ModelWrapper):
    """A network for inference, whose convolutions include the scale of the batch normalization after them.

    Attributes:
      model: the network.
      blocks: the paths of the `ConvNormAct` whose normalization only adds its bias.
    """

    blocks: frozenset[Path]

    @property
    def stride(self) -> int:
        """The stride of the network."""
        return int(getattr(self.model, "stride", 1))

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Applies the network to the variables that `fold_batch_norm` returned."""

        def add_bias(call: Callable[..., Any], values: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if not (isinstance(module, BatchNorm) and module.path[:-1] in self.blocks):
                return call(*values, **options)
            return (values[0] + module.get_variable("params", "bias")).astype(module.dtype)

        with nn.intercept_methods(add_bias):
            return self.model.apply(variables, *args, **kwargs)


def fold_batch_norm(model: SegmentationModel, variables: Variables, channels: int) -> tuple[FoldedModel, Variables]:
    """Returns a network that computes the same, up to rounding, without normalizing after its convolutions.

    The scale of each batch normalization in a `ConvNormAct` is multiplied into the kernel before it, and its mean goes
    into its bias. Compilers such as XLA fuse the normalization with what follows anyway; others, such as that of ONNX
    Runtime, are left with half as many operations.

    Args:
      model: the network.
      variables: its `params` and perhaps `batch_stats`, arrays on the host.
      channels: the number of channels of images.
    """
    blocks = _blocks(model, variables, channels)
    flat = dict(traverse_util.flatten_dict(dict(variables)))
    for path, epsilon in blocks.items():
        mean, variance = (_wide(flat["batch_stats", *path, "norm", name]) for name in ("mean", "var"))
        scale = _wide(flat["params", *path, "norm", "scale"]) / np.sqrt(variance + epsilon)
        bias = _wide(flat["params", *path, "norm", "bias"]) - mean * scale
        flat["params", *path, "norm", "bias"] = bias.astype(np.float32)
        for name in ("kernel", "bias"):
            if (place := ("params", *path, "conv", name)) in flat:
                flat[place] = _scaled(flat[place], scale)
    return FoldedModel(model, frozenset(blocks)), traverse_util.unflatten_dict(flat)


def _blocks(model: SegmentationModel, variables: Variables, channels: int) -> dict[Path, float]:
    """Returns the path of each convolution with batch normalization, and what is added to the variance there."""
    found: dict[Path, float] = {}

    def record(call: Callable[..., Any], values: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, ConvNormAct) and context.method_name == "__call__" and module.norm == "batch":
            found[module.path] = module.epsilon
        return call(*values, **options)

    side = 8 * int(getattr(model, "stride", 1))
    with nn.intercept_methods(record):
        image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        jax.eval_shape(functools.partial(model.apply, train=False), variables, image)
    return found


def _scaled(array: Any, scale: np.ndarray) -> np.ndarray:
    """Returns the product of an array and float64 factors, computed in float64 by parts, as float32."""
    product = aligned(np.shape(array))
    return np.multiply(array, scale, out=product, dtype=np.float64, casting="same_kind")


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64)
