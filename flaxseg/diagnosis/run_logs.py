"""The logs of a run: whether TensorBoard's event files and `metrics.jsonl` can be read, and agree."""

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tqdm

from flaxseg.data.memory import size_text
from flaxseg.diagnosis.findings import Finding, Note, Problem, Row
from flaxseg.report.event_files import event_files
from flaxseg.train.workdir import Workdir

_TRAINING = "train/loss"
"""A scalar that every logged step has, in both logs."""

_HEADER_BYTES, _CHECKSUM_BYTES = 12, 4
_BAR_BYTES = 2**24
_SHOWN_STEPS = 3

_RESUME = "resume the run, which rewrites it; or move it away if you no longer need it"


def check_logs(workdir: Path, *, last_step: int | None) -> Iterator[Finding]:
    """Yields what the logs of a run contain, and where they are damaged, repeat a step or disagree.

    Args:
      workdir: the directory of the run.
      last_step: the step of its latest checkpoint. Later rows may be unfinished, and resuming replaces them.
    """
    logged, shown = set[int](), set[int]()
    path = Workdir(workdir).metrics
    if path.exists():
        yield from _check_rows(path, logged)
    else:
        yield Note(f"{path.name} is missing; a run writes it with its first logged step")
    files = event_files(workdir)
    if not files:
        yield Note("there are no event files, so TensorBoard shows nothing")
    yield from _check_events(files, shown)
    # An older version of flaxseg, which wrote no rows, may have begun the run.
    common = range(min(logged, default=0), (last_step or 0) + 1)
    for name, missing in (("TensorBoard", logged - shown), (path.name, shown - logged)):
        steps = sorted(step for step in missing if step in common)
        if logged and shown and steps:
            text = f"{name} lacks {len(steps)} logged steps that the other log has: {_listed(steps)}"
            yield Problem(text, "use the other log; nothing else of the run is affected")


def _check_rows(path: Path, logged: set[int]) -> Iterator[Finding]:
    """Checks the rows of `metrics.jsonl`, and adds the steps of training to `logged`."""
    counts: Counter[tuple[int, bool]] = Counter()
    bad, is_torn, evaluations = [], False, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = _row(line)
            if row is not None:
                is_training = _TRAINING in row
                counts[row["step"], is_training] += 1
                evaluations += not is_training
                if is_training:
                    logged.add(row["step"])
            elif line.endswith(b"\n"):
                bad.append(number)
            else:
                is_torn = True
    yield Row(path.name, f"{len(logged):,} logged steps, {evaluations:,} evaluations")
    if bad:
        yield Problem(f"{path.name}: {len(bad)} lines are not rows, the first is line {bad[0]}", _RESUME)
    if is_torn:
        yield Note(f"{path.name} ends with an unfinished row, as a killed run leaves it; resuming removes it")
    if twice := sorted({step for (step, _), count in counts.items() if count > 1}):
        yield Problem(
            f"{path.name}: {len(twice)} steps occur twice: {_listed(twice)}", "drop duplicates when you read it"
        )


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_row = isinstance(row, dict) and isinstance(row.get("step"), int) and line.endswith(b"\n")
    return row if is_row else None


def _check_events(files: list[Path], shown: set[int]) -> Iterator[Finding]:
    """Checks event files, and adds the steps of training to `shown`."""
    counts: Counter[tuple[str, int]] = Counter()
    total = sum(file.stat().st_size for file in files)
    with tqdm.tqdm(
        total=total, desc="events", unit="B", unit_scale=True, disable=True if total < _BAR_BYTES else None
    ) as bar:
        for file in files:
            events, problem = 0, ""
            for data, problem in _records(file):
                if not problem:
                    events += 1
                    counts.update(_summaries(data))
                    bar.update(len(data))
            yield Row(file.name, f"{events:,} events, {size_text(file.stat().st_size)}")
            if problem == "truncated":
                yield Note(f"{file.name} ends with an unfinished event, as a killed run leaves it; resuming removes it")
            elif problem:
                yield Problem(f"{file.name}: is damaged {problem}; TensorBoard shows nothing after that", _RESUME)
    shown.update(step for tag, step in counts if tag == _TRAINING)
    twice = sorted({step for (_, step), count in counts.items() if count > 1})
    if twice:
        text = f"TensorBoard shows {len(twice)} steps twice: {_listed(twice)}"
        yield Problem(text, "resume the run, which removes what it repeats; event files of another run may be mixed in")


def _records(file: Path) -> Iterator[tuple[bytes, str]]:
    """Yields the content of each record of an event file; the last one may be ("", what is wrong)."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    size = file.stat().st_size
    with file.open("rb") as stream:
        while header := stream.read(_HEADER_BYTES):
            place = f"at byte {stream.tell() - len(header):,}"
            if len(header) < _HEADER_BYTES:
                yield b"", "truncated"
                return
            length, checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum:
                yield b"", place
                return
            if length + _CHECKSUM_BYTES > size - stream.tell():
                yield b"", "truncated"
                return
            data = stream.read(length)
            if masked_crc32c(data) != struct.unpack("<I", stream.read(_CHECKSUM_BYTES))[0]:
                yield b"", place
                return
            yield data, ""


def _summaries(data: bytes) -> Iterable[tuple[str, int]]:
    """Yields the tag and the step of each summary of an event that belongs to a step."""
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event.FromString(data)
    for value in event.summary.value if event.HasField("summary") else ():
        if not value.tag.startswith("_hparams_/"):
            yield value.tag, event.step


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:_SHOWN_STEPS])) + (", ..." if len(steps) > _SHOWN_STEPS else "")
