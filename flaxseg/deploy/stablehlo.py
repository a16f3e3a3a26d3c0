"""StableHLO: the whole program in one file, for the CPU, NVIDIA GPUs and TPUs, by `jax.export`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from flaxseg.deploy.program import Program, Sizes
from flaxseg.errors import ExportError

FILE_NAME = "model.stablehlo"

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that a file contains the program for."""

_SMALLEST = (1, 8)
"""Smallest heights and widths in strides: a few networks cannot be traced for a single stride."""


def stablehlo_program(
    program: Program, *, channels: int, stride: int, fixed: tuple[int, int] | None, default: tuple[int, int]
) -> tuple[bytes, Sizes]:
    """Returns a program as the bytes of a file, and the image sizes that it accepts.

    Batch size, height and width are symbolic: one file serves batches of any size, and images whose sides are multiples
    of the stride. A network that cannot be traced so gets one fixed size.

    Args:
      program: a function of images, float32[B, H, W, C].
      channels: the number of channels of the images.
      stride: the network's stride.
      fixed: the height and width to fix; None: symbolic.
      default: the height and width to fix where symbolic ones are impossible.

    Raises:
      ExportError: the program cannot be traced.
    """
    for smallest in () if fixed else _SMALLEST:
        try:
            return _traced(program, _symbolic_shape(channels, stride, smallest)), Sizes(stride, smallest * stride)
        # Both mean that a step of the network depends on the size itself.
        except (jax.errors.InconclusiveDimensionOperation, jax.errors.JAXTypeError):
            continue
    size = fixed or default
    (batch,) = export.symbolic_shape("batch")
    return _traced(program, (batch, *size, channels)), Sizes(stride, min(size), fixed=size)


def read_stablehlo(path: str | Path) -> Program:
    """Returns the program in a file, a function of images, float32[B, H, W, C], which `jax.jit` can compile.

        predict = jax.jit(read_stablehlo("exported/model.stablehlo"))

    Raises:
      ExportError: the file cannot be read, or holds no program.
    """
    try:
        exported = export.deserialize(bytearray(Path(path).read_bytes()))
    # A damaged file raises whatever the damaged place leads to.
    except Exception as error:
        raise ExportError(
            f"{path}: cannot be read as a program of jax.export ({type(error).__name__}: {error}); export it again"
        ) from error

    def call(image: jax.Array | np.ndarray) -> jax.Array:
        return jnp.asarray(exported.call(jnp.asarray(image, jnp.float32)))

    return call


def _symbolic_shape(channels: int, stride: int, smallest: int) -> tuple:
    scope = export.SymbolicScope([f"rows >= {smallest}", f"columns >= {smallest}"] if smallest > 1 else [])
    batch, rows, columns = export.symbolic_shape("batch, rows, columns", scope=scope)
    return batch, stride * rows, stride * columns, channels


def _traced(program: Program, shape: tuple) -> bytes:
    try:
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.float32))
        return bytes(exported.serialize())
    except ImportError as error:
        raise ExportError(f"StableHLO files need {error.name}, which is missing: pip install flatbuffers") from error
