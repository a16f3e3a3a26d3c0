"""ONNX files for images of any size: what the converter needs to trace symbolic heights and widths."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from flaxseg.deploy.program import Program

BLOCKS = "blocks"
"""The name of the array of blocks within the file."""


def in_blocks(program: Program, *, channels: int, stride: int, smallest: int) -> tuple[Program, jax.ShapeDtypeStruct]:
    """Returns a program that takes an image cut into blocks of stride x stride pixels, and the shape of these.

    The converter derives every size in the program from the symbols in the shape of its input. In the shape of an image
    whose height is a multiple of the stride there is a product, and no symbol; in that of its blocks there is one.

    Args:
      program: a function of images, float32[batch, stride * rows, stride * columns, C].
      channels: the number of channels of the images.
      stride: the network's stride.
      smallest: the smallest number of rows and columns.

    Returns:
      A function of float32[batch, rows, stride, columns, stride, C], and this shape, whose first, second and fourth
      lengths are symbolic.
    """
    scope = export.SymbolicScope([f"rows >= {smallest}", f"columns >= {smallest}"] if smallest > 1 else [])
    batch, rows, columns = export.symbolic_shape("batch, rows, columns", scope=scope)

    def blocks_program(blocks: jax.Array) -> jax.Array:
        return program(blocks.reshape(batch, rows * stride, columns * stride, channels))

    return blocks_program, jax.ShapeDtypeStruct((batch, rows, stride, columns, stride, channels), jnp.float32)


def take_images(model: Any, *, name: str, channels: int, stride: int) -> None:
    """Changes a file whose input are blocks so that its input is the image.

    Args:
      model: an `onnx.ModelProto` of a program from `in_blocks`, whose input is called BLOCKS.
      name: the name of the image.
      channels: its number of channels.
      stride: the network's stride.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    constants = {"stride": [stride], "channels": [channels]}
    graph.initializer.extend(
        helper.make_tensor(f"{BLOCKS}_{key}", TensorProto.INT64, [1], value) for key, value in constants.items()
    )
    axes = {"batch": 0, "height": 1, "width": 2}
    nodes = [
        helper.make_node("Shape", [name], [f"{BLOCKS}_{key}"], start=axis, end=axis + 1) for key, axis in axes.items()
    ]
    nodes += [
        helper.make_node("Div", [f"{BLOCKS}_{length}", f"{BLOCKS}_stride"], [f"{BLOCKS}_{count}"])
        for length, count in (("height", "rows"), ("width", "columns"))
    ]
    lengths = ("batch", "rows", "stride", "columns", "stride", "channels")
    nodes += [
        helper.make_node("Concat", [f"{BLOCKS}_{key}" for key in lengths], [f"{BLOCKS}_shape"], axis=0),
        helper.make_node("Reshape", [name, f"{BLOCKS}_shape"], [BLOCKS]),
    ]
    rest = list(graph.node)
    del graph.node[:], graph.input[:]
    # The converter's notes on the shapes of intermediate values name each size differently.
    del graph.value_info[:]
    graph.node.extend([*nodes, *rest])
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "height", "width", channels]))
    dimensions = graph.output[0].type.tensor_type.shape.dim
    for dimension, length in zip(dimensions, axes, strict=False):
        dimension.dim_param = length


@contextlib.contextmanager
def symbolic_sizes() -> Iterator[None]:
    """Corrects two places of jax2onnx 0.17.1 in the `with` block that are wrong for symbolic sizes.

    Raises:
      ImportError, AttributeError: another version of jax2onnx, where the places are not found.
    """
    import onnx_ir
    from jax2onnx.plugins.flax.linen.max_pool import MaxPoolPlugin

    convert = vars(onnx_ir._core)["_maybe_convert_to_symbolic_dim"]

    def convert_dimension(length: Any) -> Any:
        # A symbolic length of JAX has the method __int__, which raises.
        return onnx_ir.SymbolicDim(str(length)) if export.is_symbolic_dim(length) else convert(length)

    def pooled_length(length: Any, window: int, stride: int, padding: str) -> Any:
        # jax2onnx leaves symbolic lengths as they are. The padding is part of the array; see `ops.max_pool`.
        assert padding.upper() == "VALID", padding
        return (length - window) // stride + 1

    with (
        _replaced(onnx_ir._core, "_maybe_convert_to_symbolic_dim", convert_dimension),
        _replaced(MaxPoolPlugin, "_compute_output_dim", staticmethod(pooled_length)),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any] | staticmethod) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
