"""TensorBoard's event files of earlier parts of a run, without what the resumed run writes again."""

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flaxseg.errors import CheckpointError

IMPORTS = threading.RLock()
"""Held while tensorboard's modules are imported, which import each other: in two threads at once, one of them would see
a module before its functions are defined."""

CONFIG = "config"
"""The tag of the text of the configuration."""

_OF_A_PART = ("_hparams_/", CONFIG)
"""What tags begin with that belong to no step: each part of a run writes them."""

EVALUATION = "eval/"
"""What the tags of the results of an evaluation begin with."""

BATCH = "train/batch"
"""The tag of the panel of a training batch."""

PARAMETERS, GRADIENTS = "parameters/", "gradients/"
"""What the tags of histograms begin with."""

_AT_EVALUATIONS = (EVALUATION, BATCH, PARAMETERS, GRADIENTS)
"""What tags begin with that are written with each evaluation."""

_HEADER, _CRC = 12, 4
"""Bytes of a record before its data, and of a checksum."""


def event_files(directory: Path) -> list[Path]:
    """Returns the event files in a directory, in the order in which TensorBoard reads them."""
    return sorted(directory.glob("events.out.tfevents.*"))


def drop_repeated_events(
    files: Iterable[Path], step: int, *, repeats_evaluation: bool = False, writes_config: bool = True
) -> None:
    """Removes the summaries that a run repeats when it is resumed at a step; each file is replaced atomically.

    These are the summaries of later steps, and those that belong to no step, and all of them at step 0. A marker of a
    restart (`SessionLog.START`) does not suffice: TensorBoard's readers apply it to some kinds of summaries only. An
    incomplete event at the end of a file, which a killed process leaves, is removed as well.

    Args:
      files: event files that nothing writes to.
      step: the step of the checkpoint that the run is resumed from; 0 for a run that begins anew.
      repeats_evaluation: whether the run begins with the evaluation of this step.
      writes_config: whether the run writes the summaries that belong to no step again; otherwise they stay.

    Raises:
      CheckpointError: a file cannot be read or written.
    """
    repeated = (_OF_A_PART if writes_config else ()), (_AT_EVALUATIONS if repeats_evaluation else ())
    for file in files:
        new = file.with_name(".events.new")
        try:
            if _copy_others(file, new, step, *repeated):
                new.replace(file)
        except OSError as error:
            raise CheckpointError(
                f"{file}: cannot be read and written ({error.strerror}); make it accessible, or move it away"
            ) from error
        finally:
            new.unlink(missing_ok=True)


def _copy_others(file: Path, new: Path, step: int, always: tuple[str, ...], of_step: tuple[str, ...]) -> bool:
    """Copies all events but the repeated ones; returns whether there were any to omit."""
    with IMPORTS:
        from tensorboard.compat.proto.event_pb2 import Event

    omitted = False
    with file.open("rb") as old, new.open("wb") as copy:
        for record in _records(old):
            if _is_repeated(Event.FromString(record[_HEADER:-_CRC]), step, always, of_step):
                omitted = True
            else:
                copy.write(record)
    return omitted or new.stat().st_size < file.stat().st_size


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records of a file up to the first that is incomplete or damaged, as TensorBoard's readers do.

    A record is the length of its data in eight bytes, a checksum of these, the data, and a checksum of the data.
    tensorboard's own reader imports TensorFlow if it is installed.
    """
    with IMPORTS:
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(_HEADER)) == _HEADER:
        length, checksum = struct.unpack("<QI", header)
        if checksum != masked_crc32c(header[:-_CRC]) or length > size:
            return
        rest = file.read(length + _CRC)
        if len(rest) < length + _CRC or struct.pack("<I", masked_crc32c(rest[:-_CRC])) != rest[-_CRC:]:
            return
        yield header + rest


def _is_repeated(event: Any, step: int, always: tuple[str, ...], of_step: tuple[str, ...]) -> bool:
    if not event.HasField("summary"):
        return False
    repeated = always + (of_step if event.step == step else ())
    return step == 0 or event.step > step or any(value.tag.startswith(repeated) for value in event.summary.value)
