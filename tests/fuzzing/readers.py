"""What flaxseg reads each kind of file with."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.data.decode.blocks import open_blocks, row_blocks, stored_size
from flaxseg.data.decode.images import decode_image, decode_label, decode_reduced, exif_orientation, read_palette
from flaxseg.data.sources.archives import check_members
from flaxseg.data.stored_samples import read_samples
from flaxseg.diagnosis.checks import examine_run
from flaxseg.inference.description import read_description
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.manifest import read_manifest, verify
from flaxseg.report.event_files import drop_repeated_events
from flaxseg.report.step_rows import StepRows
from flaxseg.train.lock_file import read_lock
from flaxseg.train.workdir import Workdir
from flaxseg.train.writers import _step_of
from fuzzing.originals import ARCHIVES, IMAGES, WEIGHTS, original

MEGAPIXELS = 1.0
"""The limit that images are read with."""

Reader = Callable[[], Any]


def readers(kind: str, data: bytes, folder: Path) -> Iterator[Reader]:
    """Yields functions that read a file of a kind, each of which may raise an error.

    Args:
      kind: the kind of file.
      data: its content.
      folder: an empty folder.
    """
    path = folder / {"npy": "file.npy", "npy-float": "file.npy"}.get(kind, kind if "." in kind else "file.tif")
    path.write_bytes(data)
    if kind in IMAGES:
        yield from _image_readers(data, path)
    elif kind in WEIGHTS:
        yield functools.partial(read_weights, path)
    elif kind in ARCHIVES:
        yield functools.partial(check_members, str(path))
    else:
        yield from _record_readers(kind, data, path, folder)


def _image_readers(data: bytes, path: Path) -> Iterator[Reader]:
    options = {"name": "file", "max_megapixels": MEGAPIXELS}
    yield functools.partial(decode_image, data, **options)
    yield functools.partial(decode_image, data, value_range=(0, 1000), **options)
    yield functools.partial(decode_reduced, data, min_size=(5, 5), **options)
    yield functools.partial(exif_orientation, data, **options)
    yield functools.partial(decode_label, data, **options)
    yield functools.partial(read_palette, data, **options)
    if path.suffix == ".npy" or data[:2] in (b"II", b"MM"):
        yield functools.partial(stored_size, str(path))
        yield functools.partial(_read_in_blocks, str(path))


def _read_in_blocks(path: str) -> None:
    image = open_blocks(path)
    try:
        if image.shape[0] * image.shape[1] > MEGAPIXELS * 1e6:
            image[0:10, 0:10]
            return
        for _ in row_blocks(image, num_bytes=2**16):
            pass
    finally:
        image.close()


def _record_readers(kind: str, data: bytes, path: Path, folder: Path) -> Iterator[Reader]:
    match kind:
        case "model.json":
            yield lambda: read_description(path).build()
        case "config.json":
            yield lambda: validate(load_config(str(path)))
            yield lambda: Workdir(folder).check_config(load_config(str(_intact(folder, "config.json", "other.json"))))
        case "data.json":
            yield lambda: Workdir(folder).check_data({})
        case "manifest.json":
            yield lambda: _verified(folder)
        case "samples.npz":
            yield functools.partial(read_samples, path)
        case ".lock":
            yield lambda: _is_held(folder)
        case "events":
            path = path.rename(folder / "events.out.tfevents.1.host")
    yield lambda: _no_failure(folder)
    if kind == "metrics.jsonl":
        yield lambda: StepRows(path, _step_of).cut_after(3)
    elif kind == "events":
        yield lambda: drop_repeated_events([path], 3)


def _intact(folder: Path, kind: str, name: str) -> Path:
    (folder / name).write_bytes(original(kind))
    return folder / name


def _verified(folder: Path) -> None:
    (folder / "array").write_bytes(b"numbers")
    found = read_manifest(folder)
    if found is not None:
        verify(folder, found)
    (folder / "array").unlink()


def _is_held(folder: Path) -> bool:
    found = read_lock(folder / ".lock", now=0.0)
    return found is not None and found.is_held


def _no_failure(folder: Path) -> None:
    """Examines the folder as that of a run, of which most files are missing; no check may fail unexpectedly."""
    if not (folder / "config.json").exists():
        _intact(folder, "config.json", "config.json")
    if (folder / "manifest.json").exists():
        step = folder / "checkpoints" / "7"
        (step / "state").mkdir(parents=True)
        (folder / "manifest.json").rename(step / "manifest.json")
    for section in examine_run(folder):
        for problem in section.problems:
            assert "unexpectedly" not in problem.text, f"{section.title}: {problem.text}"


def read(kind: str, data: bytes) -> Iterator[Any]:
    """Yields what each reader of a kind returns, or the exception that it raises."""
    with tempfile.TemporaryDirectory(prefix="flaxseg-fuzzing-") as folder:
        for reader in readers(kind, data, Path(folder)):
            try:
                yield reader()
            except Exception as error:
                yield error
