"""ONNX files, converted by jax2onnx and read by ONNX Runtime."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg import ops
from flaxseg.deploy.program import Program, Sizes
from flaxseg.errors import ExportError

FILE_NAME = "model.onnx"

INPUT = "image"
"""The name of a file's input; its output is named for what it is: logits, probabilities or classes."""

OPSET = 23
"""The version of ONNX's operators."""

_INSTALL = "pip install 'flaxseg[onnx]'"


def onnx_program(
    program: Program, *, channels: int, stride: int, size: tuple[int, int], output: str
) -> tuple[bytes, Sizes]:
    """Returns a program as the bytes of a file, and the image sizes that it accepts.

    The batch size is symbolic, the image's size fixed.

    Args:
      program: a function of images, float32[B, H, W, C].
      channels: the number of channels of the images.
      stride: the network's stride.
      size: the height and width of the images.
      output: the name of the output.

    Raises:
      ExportError: jax2onnx is not installed, or cannot convert the program.
    """
    convert = _converter()
    try:
        with _silence(), ops.plain_forms():
            model = convert(
                program,
                [("batch", *size, channels)],
                model_name="flaxseg",
                opset=OPSET,
                input_names=[INPUT],
                output_names=[output],
            )
        return model.SerializeToString(), Sizes(stride, min(size), fixed=size)
    # Whatever a converter of the user's operations raises; Ctrl-C is not among them.
    except Exception as error:
        raise ExportError(
            f"jax2onnx cannot convert this network ({type(error).__name__}: {_first_line(error)}); "
            "use --format=stablehlo, which takes every network"
        ) from error


def read_onnx(path: str | Path) -> Program:
    """Returns the program in a file, run by ONNX Runtime on the CPU: a function of images, float32[B, H, W, C].

    Raises:
      ExportError: ONNX Runtime is not installed, or cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(f"ONNX Runtime is not installed; {_INSTALL}") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"{path}: ONNX Runtime cannot load it ({_first_line(error)}); export it again") from error
    return lambda image: session.run(None, {INPUT: np.asarray(image, np.float32)})[0]


def _converter() -> Any:
    try:
        import jax._src.core
        import jax.extend.core

        # jax2onnx 0.17.1 looks for the class where jax 0.12 no longer has it.
        if not hasattr(jax._src.core, "ClosedJaxpr"):
            setattr(jax._src.core, "ClosedJaxpr", jax.extend.core.ClosedJaxpr)  # noqa: B010
        with _silence():
            import jax2onnx
    except ImportError as error:
        raise ExportError(f"ONNX files need {error.name or 'jax2onnx'}, which is not installed; {_INSTALL}") from error
    return jax2onnx.to_onnx


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides the log messages of the converter, which are about its own insides."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
