"""ONNX files, converted by jax2onnx and read by ONNX Runtime."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg import ops
from flaxseg.deploy.onnx_sizes import BLOCKS, in_blocks, symbolic_sizes, take_images
from flaxseg.deploy.program import Program, Sizes
from flaxseg.errors import ExportError

FILE_NAME = "model.onnx"

INPUT = "image"
"""The name of a file's input; its output is named for what it is: logits, probabilities or classes."""

OPSET = 23
"""The version of ONNX's operators."""

_FATAL = 4
"""ONNX Runtime's level of messages; errors are raised as well."""

_INSTALL = "pip install 'flaxseg[onnx]', or -e '.[onnx]' in a clone"


def onnx_program(program: Program, *, channels: int, sizes: Sizes, output: str) -> bytes:
    """Returns a program as the bytes of a file, with a symbolic batch size, and height and width too if they are free.

    Args:
      program: a function of images, float32[B, H, W, C].
      channels: the number of channels of the images.
      sizes: the image sizes that the file is to accept.
      output: the name of the output.

    Raises:
      ExportError: jax2onnx is not installed, or cannot convert the program.
    """
    convert = functools.partial(_converter(), model_name="flaxseg", opset=OPSET, output_names=[output])
    try:
        with _silence(), ops.plain_forms():
            if sizes.fixed:
                model = convert(program, [("batch", *sizes.fixed, channels)], input_names=[INPUT])
                return bytes(model.SerializeToString())
            stride = sizes.multiple
            blocks, shape = in_blocks(program, channels=channels, stride=stride, smallest=sizes.smallest // stride)
            with symbolic_sizes():
                model = convert(blocks, [shape], input_names=[BLOCKS])
            take_images(model, name=INPUT, channels=channels, stride=stride)
            return bytes(model.SerializeToString())
    # Whatever a converter of the user's operations raises; Ctrl-C is not among them.
    except Exception as error:
        kind = "this network" if sizes.fixed else "this network for images of any size"
        raise ExportError(
            f"jax2onnx cannot convert {kind} ({type(error).__name__}: {_first_line(error)}); "
            "use --format=stablehlo, which takes every network"
        ) from error


def check_installed() -> None:
    """Raises ExportError if the converter or ONNX Runtime is not installed."""
    _converter()
    _runtime()


def read_onnx(path: str | Path) -> Program:
    """Returns the program in a file, run by ONNX Runtime on the CPU: a function of images, float32[B, H, W, C].

    Raises:
      ExportError: ONNX Runtime is not installed, or cannot load the file; and when called, if it cannot run it.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"{path}: ONNX Runtime cannot load it ({_first_line(error)}); export it again") from error

    def call(image: Any) -> Any:
        try:
            return session.run(None, {INPUT: np.asarray(image, np.float32)})[0]
        except Exception as error:
            raise ExportError(
                f"{path}: ONNX Runtime cannot run it on {np.shape(image)} ({_first_line(error)}); give images of the "
                "size that the file takes"
            ) from error

    return call


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(f"ONNX Runtime is not installed; {_INSTALL}") from error
    return onnxruntime


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
