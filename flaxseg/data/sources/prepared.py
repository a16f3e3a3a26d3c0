"""Datasets that TensorFlow Datasets has prepared, read as stored bytes and without TensorFlow."""

import dataclasses
import glob
import os
import socket
import urllib.parse
import urllib.request
from typing import Any

import numpy as np

from flaxseg.data.decode.images import decode_label, decode_reduced
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.archives import check_members
from flaxseg.data.types import Example, Source, identity, reduced
from flaxseg.errors import DataError

OTHER_WAYS = (
    "Or unpack the archives into one folder and name that folder in data.dir: it is read as it is",
    "Or train on the embedded dataset, which needs no files: python -m flaxseg.main --config=configs/shapes.py",
)
"""What else a user can do where a dataset of known layout cannot be prepared."""


@dataclasses.dataclass(frozen=True)
class Archives:
    """What TensorFlow Datasets prepares a dataset from, where it has no network to download it.

    Attributes:
      files: names of the archives; left out, those that TensorFlow Datasets itself knows of, if any.
      manual_dir: the folder to put them in; "" for `downloads/manual` in the data directory.
      host: the server that they come from; left out with `files`.
      page: where to get them; left out with `files`.
      otherwise: further ways for the user, one sentence each.
    """

    files: tuple[str, ...] = ()
    manual_dir: str = ""
    host: str = ""
    page: str = ""
    otherwise: tuple[str, ...] = ()


def open_prepared(name: str, split: str, *, data_dir: str, encoded: tuple[str, ...], archives: Archives) -> Any:
    """The stored records of one split, prepared first (from archives, or else by downloading) if they are not there.

    Args:
      name: the dataset's name in TensorFlow Datasets, with its config after a slash if it has several.
      split: a split, or a slice of one such as `train[:90%]`.
      data_dir: where prepared datasets lie; "" for TensorFlow Datasets' own default.
      encoded: the features that are pictures; they are left as the bytes that were stored.
      archives: what it is prepared from.

    Returns:
      Random access to one dict a record, with pictures as bytes.

    Raises:
      DataError: no such split, prepared in a format without random access, or impossible to prepare.
    """
    return open_records(find_builder(name, data_dir=data_dir), split, encoded=encoded, archives=archives)


def find_builder(name: str, *, data_dir: str) -> Any:
    """What TensorFlow Datasets knows of a dataset, whether it is prepared or not; see `open_prepared`.

    Raises:
      DataError: prepared in a format without random access.
    """
    import tensorflow_datasets as tfds

    data_dir = os.path.expanduser(data_dir) if data_dir else tfds.core.constants.DATA_DIR
    try:
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except ValueError as error:
        # A prepared dataset keeps the format it was prepared in; asking for another is refused.
        if "already set" not in str(error):
            raise
        raise DataError(
            f"{name} in {data_dir} was prepared in a format that cannot be read at random (tfrecord is the default of "
            "TensorFlow Datasets): prepare it again as array_record, by naming an empty directory in data.dir "
            "(move the folder 'downloads' there first to keep what was downloaded)"
        ) from error


def open_records(builder: Any, split: str, *, encoded: tuple[str, ...], archives: Archives) -> Any:
    """`open_prepared` for a builder that was found before."""
    import tensorflow_datasets as tfds

    if not builder.is_prepared():
        _prepare(tfds, builder, archives)
    skipped = {key: tfds.decode.SkipDecoding() for key in encoded}
    try:
        return builder.as_data_source(split=split, decoders=skipped)
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"{builder.info.name} in {builder.data_dir} has no split {split!r}: there are "
            f"{', '.join(builder.info.splits)}, and slices of them such as 'train[:90%]'"
        ) from error


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """Records of a prepared dataset as examples.

    Attributes:
      records: from `open_prepared`.
      image_key: the feature that holds the picture, as a file's bytes or an array.
      mask_key: the same for the mask.
      id_key: the feature that holds a text or number to call an example by, or "" for its place in the split.
      name: what messages call the dataset.
      classes: which mask value is which class.
      at_least: the height and width that reduced pictures must not go below; None for pictures as stored.
    """

    records: Any
    image_key: str
    mask_key: str
    id_key: str
    name: str
    classes: ClassValues
    at_least: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        record = self.records[index]
        identity = self._identity(record, index)
        name = f"{self.name} {identity}"
        image, (height, width) = _picture(record[self.image_key], name, self.at_least)
        mask = _mask(record[self.mask_key], f"{name} ({self.mask_key})")
        if mask.shape != (height, width):
            raise DataError(
                f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]} (width x height), but the picture is "
                f"{width}x{height}; a mask has its picture's size: prepare the dataset again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=name), "id": identity}

    def reduced_to(self, size: tuple[int, int]) -> "PreparedSource":
        """As `flaxseg.data.types.reduced`."""
        return dataclasses.replace(self, at_least=size)

    def id_of(self, index: int) -> str:
        """What an example is called; reads its record, but decodes no picture."""
        return self._identity(self.records[index], index)

    def _identity(self, record: Any, index: int) -> str:
        value = record[self.id_key] if self.id_key else index
        return os.path.splitext(value.decode())[0] if isinstance(value, bytes) else str(value)


def sorted_by_id(source: PreparedSource) -> Source:
    """The examples of `source` in the order of their ids; reads every record once, but decodes no picture.

    Preparing shuffles. Sorted as the original layout is read, a seed means the same batches from either.
    """
    return _Ordered(source, tuple(sorted(range(len(source)), key=source.id_of)))


@dataclasses.dataclass(frozen=True)
class _Ordered:
    """The examples of `source` in another order."""

    source: Source
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.order[index]]

    def id_of(self, index: int) -> str:
        """As `flaxseg.data.types.identity`."""
        return identity(self.source, self.order[index])

    def reduced_to(self, size: tuple[int, int]) -> "_Ordered":
        """As `flaxseg.data.types.reduced`."""
        return dataclasses.replace(self, source=reduced(self.source, size))


def _picture(
    stored: bytes | np.ndarray, name: str, at_least: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture, and the height and width at which it is stored."""
    if isinstance(stored, bytes):
        return decode_reduced(stored, name=name, at_least=at_least)
    return np.asarray(stored), stored.shape[:2]


def _mask(stored: bytes | np.ndarray, name: str) -> np.ndarray:
    if isinstance(stored, bytes):
        return decode_label(stored, name=name)
    values = np.asarray(stored)
    if values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{name}: has mask values from {values.min()} to {values.max()}, but labels are one byte; "
            "map the classes to 0..254 and ignored pixels to 255"
        )
    return values.reshape(values.shape[:2]).astype(np.uint8)


def _prepare(tfds: Any, builder: Any, archives: Archives) -> None:
    data_dir = str(builder.data_dir_root)
    manual_dir = os.path.expanduser(archives.manual_dir) or os.path.join(data_dir, "downloads", "manual")
    known = archives if archives.files else _known_downloads(builder, archives)
    # Where no names are known, whatever lies there may be read.
    files = known.files or tuple(os.listdir(manual_dir) if os.path.isdir(manual_dir) else ())
    missing = [file for file in files if not os.path.isfile(os.path.join(manual_dir, file))]
    for file in files:
        if file not in missing:
            check_members(os.path.join(manual_dir, file))
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # Of the downloads that TensorFlow Datasets knows of, one of several configs may need only a part.
        if missing and (known is archives or len(missing) == len(files)):
            _check_network(data_dir, known.host)
        builder.download_and_prepare(download_config=config)
    # Without a network, space, rights, TensorFlow or the right archives, each layer below has errors of its own.
    except Exception as error:
        put = f"Put {' and '.join(known.files) or 'what it is made from'} ({known.page}) into the folder {manual_dir}"
        if known.files:
            there = f"missing there: {', '.join(missing)}" if missing else "all are there: are they the published ones?"
            put += f" ({there})"
        ways = [f"{put} and run the same command again", *archives.otherwise]
        reason = " ".join(str(error).split())[:400]
        raise DataError(
            f"the dataset {builder.info.full_name} is not prepared in {data_dir} and could not be downloaded and "
            f"prepared now ({type(error).__name__}: {reason}). What you can do:"
            + "".join(f"\n  - {way}" for way in ways)
        ) from error


def _known_downloads(builder: Any, archives: Archives) -> Archives:
    """`archives` with the names and the server that TensorFlow Datasets keeps checksums of; maybe none."""
    downloads = builder.url_infos or {}
    return dataclasses.replace(
        archives,
        files=tuple(sorted({download.filename for download in downloads.values()})),
        host=next((urllib.parse.urlsplit(url).hostname or "" for url in downloads), ""),
        page=builder.info.homepage or "see its page in the catalog of TensorFlow Datasets",
    )


def _check_network(data_dir: str, host: str) -> None:
    """Raises OSError at once where a download has no chance; TensorFlow Datasets would try on for minutes."""
    finished = glob.glob(os.path.join(glob.escape(data_dir), "downloads", "**", "*.INFO"), recursive=True)
    if not finished and not urllib.request.getproxies():
        socket.getaddrinfo(host, 443)
