"""Predicts many image files: threads read ahead and write behind, so that the device never waits for them."""

import concurrent.futures
import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from flaxseg.data.sources.files import read_file
from flaxseg.data.threads import read_ahead, thread_count
from flaxseg.deploy.files import WriteError
from flaxseg.deploy.images import NetworkImage
from flaxseg.deploy.large_images import predict_large
from flaxseg.deploy.prediction_files import PredictionFiles
from flaxseg.deploy.prediction_inputs import InputImage
from flaxseg.deploy.predictor import Predictor
from flaxseg.errors import DataError

_T = TypeVar("_T")

Row = tuple[InputImage, tuple[int, int], np.ndarray]
"""An image, its height and width, and the number of pixels of each class, int64[K]."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the images, or of the videos.

    Attributes:
      written: the number of those whose files were written.
      kept: the number of those whose files were there before.
      failed: the message for each that cannot be read.
      given: the number of all of them.
      pixels: the number of pixels of each class over all of them, int64[K].
    """

    written: int
    kept: int
    failed: tuple[str, ...]
    given: int
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Job:
    """An image with the files to write, the image as the network takes it, and as it is shown."""

    image: InputImage
    paths: Sequence[Path]
    given: NetworkImage
    original: np.ndarray | None


def predict_files(
    model: Predictor, images: Sequence[InputImage], files: PredictionFiles, *, num_threads: int = -1
) -> Outcome:
    """Predicts images and writes the files that are missing; an image that cannot be read is reported, not raised.

    Args:
      model: the network.
      images: from `find_images`.
      files: what is written.
      num_threads: the number of threads that read, and of those that write; 0 uses the calling thread, -1 one thread
        per core.

    Raises:
      DataError: a file cannot be written, such as when no space is left.
    """
    missing = [(image, files.missing(image)) for image in images]
    rows: list[Row] = [(image, *files.areas(image)) for image, paths in missing if not paths]
    kept, failed = len(rows), list[str]()
    rows += _predict_whole(
        model, [each for each in missing if each[1] and not each[0].is_large], files, failed, num_threads
    )
    rows += _predict_in_blocks(model, [each for each in missing if each[1] and each[0].is_large], failed)
    order = {image.stem: index for index, image in enumerate(images)}
    rows.sort(key=lambda row: order[row[0].stem])
    files.write_summary(rows)
    pixels = np.sum([areas for *_, areas in rows], axis=0) if rows else np.zeros(len(files.class_names), np.int64)
    return Outcome(len(rows) - kept, kept, tuple(failed), len(images), pixels)


def _predict_whole(
    model: Predictor,
    todo: Sequence[tuple[InputImage, Sequence[Path]]],
    files: PredictionFiles,
    failed: list[str],
    num_threads: int,
) -> list[Row]:
    """Predicts images that fit into memory, and appends a message to `failed` for each that cannot be read."""
    rows: list[Row] = []
    started: deque[_Job] = deque()

    with tqdm(total=len(todo), desc="predict", unit="image", disable=None) as bar:

        def readable() -> Iterator[NetworkImage]:
            for job in read_ahead(todo, lambda each: _read(model, files, *each), num_threads=num_threads):
                if isinstance(job, DataError):
                    failed.append(str(job))
                    bar.update()
                else:
                    started.append(job)
                    yield job.given

        def write_all() -> Iterator[Callable[[], Row]]:
            for prediction in model.predict(readable(), maps=files.maps):
                job = started.popleft()
                yield lambda job=job, prediction=prediction: (  # type: ignore[misc]
                    job.image,
                    job.given.size,
                    files.write(job.image, job.paths, prediction, job.original),
                )

        for row in write_behind(write_all(), num_threads=num_threads):
            rows.append(row)
            bar.update()
    return rows


def _predict_in_blocks(
    model: Predictor, todo: Sequence[tuple[InputImage, Sequence[Path]]], failed: list[str]
) -> list[Row]:
    """Predicts images that are larger than memory, and appends a message to `failed` for each that cannot be read."""
    rows: list[Row] = []
    for image, (mask,) in todo:
        try:
            size, areas = predict_large(model, image.path, mask)
        except WriteError:
            raise
        except DataError as error:
            failed.append(str(error))
        else:
            rows.append((image, size, areas))
    return rows


def _read(model: Predictor, files: PredictionFiles, image: InputImage, paths: Sequence[Path]) -> _Job | DataError:
    try:
        data = read_file(image.path)
        given = model.reader.decode(data, name=image.path)
        original = model.reader.decode_original(data, name=image.path) if files.overlays else None
    except DataError as error:
        # The traceback would keep the file in memory.
        return error.with_traceback(None)
    return _Job(image, paths, given, original)


def write_behind(writes: Iterator[Callable[[], _T]], *, num_threads: int) -> Generator[_T, None, None]:
    """Yields the result of each function, in order; threads call them, and few wait to be called."""
    threads = thread_count(num_threads)
    if not threads:
        yield from (write() for write in writes)
        return
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        running: deque[concurrent.futures.Future[_T]] = deque()
        for write in writes:
            running.append(pool.submit(write))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
