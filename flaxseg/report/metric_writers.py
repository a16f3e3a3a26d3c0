"""Writers of TensorBoard's event files, with methods of CLU's MetricWriter: CLU's, and one without TensorFlow."""

import contextlib
import importlib.util
import itertools
import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from flaxseg.errors import ArgumentError, did_you_mean
from flaxseg.report.event_files import IMPORTS

WRITERS = ("auto", "clu", "tensorboard", "none")
"""CLU's writer, one that uses nothing but tensorboard, the choice of CLU's where TensorFlow is installed, and none."""

_numbers = itertools.count()


def check_writer(writer: str) -> None:
    """Checks the name of a writer, without importing TensorFlow.

    Raises:
      ArgumentError: it is not in WRITERS, or it is "clu" and TensorFlow is not installed.
    """
    if writer not in WRITERS:
        allowed = ", ".join(map(repr, WRITERS))
        raise ArgumentError("writer", writer, f"must be one of {allowed}{did_you_mean(writer, WRITERS)}")
    if writer == "clu" and not _is_tensorflow_installed():
        raise ArgumentError(
            "writer", writer, "CLU's writer needs TensorFlow: pip install 'flaxseg[tensorflow]', or use 'tensorboard'"
        )


def open_writer(directory: Path, *, writer: str = "auto", just_logging: bool = False) -> Any:
    """Returns a writer with those methods of CLU's MetricWriter that `TensorBoardWriter` has, too.

    Args:
      directory: receives the event file; created if it does not exist.
      writer: one of WRITERS, except for "none".
      just_logging: write to the log only, not to a file.
    """
    if writer != "tensorboard":
        try:
            return _clu_writer(directory, just_logging)
        except ImportError:
            if writer == "clu":
                raise
    return TensorBoardWriter(None if just_logging else directory)


class TensorBoardWriter:
    """Writes what CLU's writer writes, without TensorFlow; a call returns when its summaries are in the file.

    tensorboard's `EventFileWriter` imports TensorFlow if it is installed, and its errors occur in a thread of its own.
    This class uses the parts below it: the records of its files, and the functions that build summaries.

    Args:
      directory: receives the event file; None: write scalars to the log only.
    """

    def __init__(self, directory: Path | None) -> None:
        self._records: Any = None
        if directory is not None:
            self._open(directory)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers, stored as float32, by their names."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        logging.info("[%d] %s", step, ", ".join(f"{name}={value:.6g}" for name, value in sorted(scalars.items())))
        self._write(step, (scalar_pb(name, value) for name, value in scalars.items()))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts by their names."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._write(step, (text_pb(name, text) for name, text in texts.items()))

    def write_summaries(self, step: int, values: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Writes arrays by their names, each with metadata that names the part of TensorBoard that shows it."""
        self._write(step, (_summary(name, value, metadata[name]) for name, value in values.items()))

    def flush(self) -> None:
        """Does nothing: all summaries are in the file."""

    def close(self) -> None:
        """Closes the file."""
        if self._records is not None:
            self._records.close()

    def _open(self, directory: Path) -> None:
        with IMPORTS:
            from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
            from tensorboard.summary.writer.record_writer import RecordWriter

        # Readers sort the files by their names.
        name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):04d}"
        directory.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter((directory / f"events.out.tfevents.{name}").open("xb"))
        source = SourceMetadata(writer=__name__)
        try:
            self._append([Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=source)])
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise

    def _write(self, step: int, summaries: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._records is not None:
            self._append(Event(wall_time=time.time(), step=step, summary=summary) for summary in summaries)

    def _append(self, events: Iterable[Any]) -> None:
        for event in events:
            self._records.write(event.SerializeToString())
        self._records.flush()


def _summary(name: str, value: np.ndarray, metadata: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary(value=[Summary.Value(tag=name, metadata=metadata, tensor=make_tensor_proto(value))])


def _clu_writer(directory: Path, just_logging: bool) -> Any:
    with IMPORTS:
        import tensorflow as tf
        from clu import metric_writers

    # TensorFlow would otherwise take all memory of the GPUs. If the program uses it already, it has been set up.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return metric_writers.create_default_writer(str(directory), just_logging=just_logging, asynchronous=False)


def _is_tensorflow_installed() -> bool:
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except ImportError:
        return False
