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


def stablehlo_program(program: Program, *, channels: int, sizes: Sizes) -> bytes:
    """Returns a program as the bytes of a file, with a symbolic batch size, and height and width too if they are free.

    Args:
      program: a function of images, float32[B, H, W, C].
      channels: the number of channels of the images.
      sizes: the image sizes that the file is to accept.

    Raises:
      ExportError: flatbuffers is not installed, or the program depends on the size of the images and `sizes` are free.
    """
    try:
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(_shape(channels, sizes), jnp.float32)
        )
        return bytes(exported.serialize())
    except ImportError as error:
        raise ExportError(f"StableHLO files need {error.name}, which is missing: pip install flatbuffers") from error
    # Both mean that a step of the network depends on the size itself.
    except (jax.errors.InconclusiveDimensionOperation, jax.errors.JAXTypeError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ExportError(f"jax.export cannot trace this network for images of any size ({first_line})") from error


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


def _shape(channels: int, sizes: Sizes) -> tuple:
    if sizes.fixed:
        return (*export.symbolic_shape("batch"), *sizes.fixed, channels)
    smallest = sizes.smallest // sizes.multiple
    scope = export.SymbolicScope([f"rows >= {smallest}", f"columns >= {smallest}"] if smallest > 1 else [])
    batch, rows, columns = export.symbolic_shape("batch, rows, columns", scope=scope)
    return batch, sizes.multiple * rows, sizes.multiple * columns, channels
