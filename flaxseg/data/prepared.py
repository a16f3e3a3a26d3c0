"""Data sets that TensorFlow Datasets has prepared, read as stored bytes and without TensorFlow."""

import dataclasses
import glob
import os
import socket
import urllib.request
from typing import Any

from flaxseg.data.batch import Example, Source
from flaxseg.data.images import decode_image, decode_label
from flaxseg.data.labels import ClassValues
from flaxseg.errors import DataError

OTHER_WAYS = (
    "Or unpack the archives into one folder and name that folder in data.dir: it is read as it is",
    "Or train on the embedded data set, which needs no files: python -m flaxseg.main --config=configs/shapes.py",
)
"""What else a user can do where a data set of known layout cannot be prepared."""


@dataclasses.dataclass(frozen=True)
class Archives:
    """What TensorFlow Datasets prepares a data set from, where it has no network to download it.

    Attributes:
      files: names of the archives.
      manual_dir: the folder to put them in; "" for `downloads/manual` in the data directory.
      host: the server that they come from.
      page: where to get them.
      otherwise: further ways for the user, one sentence each.
    """

    files: tuple[str, ...]
    manual_dir: str
    host: str
    page: str
    otherwise: tuple[str, ...] = ()


def open_prepared(name: str, split: str, *, data_dir: str, encoded: tuple[str, ...], archives: Archives) -> Any:
    """The stored records of one split, prepared first (from archives, or else by downloading) if they are not there.

    Args:
      name: the data set's name in TensorFlow Datasets, with its config after a slash if it has several.
      split: a split, or a slice of one such as `train[:90%]`.
      data_dir: where prepared data sets lie; "" for TensorFlow Datasets' own default.
      encoded: the features that are pictures; they are left as the bytes that were stored.
      archives: what the message says if the data set cannot be prepared.

    Returns:
      Random access to one dict a record, with pictures as bytes.

    Raises:
      DataError: no such split, prepared in a format without random access, or impossible to prepare.
    """
    import tensorflow_datasets as tfds

    data_dir = os.path.expanduser(data_dir) if data_dir else tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except ValueError as error:
        # A prepared data set keeps the format it was prepared in; asking for another is refused.
        if "already set" not in str(error):
            raise
        raise DataError(
            f"{name} in {data_dir} was prepared in a format that cannot be read at random (tfrecord is the default of "
            "TensorFlow Datasets): prepare it again as array_record, by naming an empty directory in data.dir "
            "(move the folder 'downloads' there first to keep what was downloaded)"
        ) from error
    if not builder.is_prepared():
        _prepare(tfds, builder, data_dir, archives)
    skipped = {key: tfds.decode.SkipDecoding() for key in encoded}
    try:
        return builder.as_data_source(split=split, decoders=skipped)
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"{name} in {builder.data_dir} has no split {split!r}: there are {', '.join(builder.info.splits)}, "
            "and slices of them such as 'train[:90%]'"
        ) from error


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """Records of a prepared data set as examples.

    Attributes:
      records: from `open_prepared`.
      image_key: the feature that holds the picture.
      mask_key: the feature that holds the mask.
      id_key: the feature that holds a text to call an example by, or "" for its number.
      name: what messages call the data set.
      classes: which mask value is which class.
    """

    records: Any
    image_key: str
    mask_key: str
    id_key: str
    name: str
    classes: ClassValues

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        record = self.records[index]
        identity = self._identity(record, index)
        name = f"{self.name} {identity}"
        image = decode_image(record[self.image_key], name=name)
        mask = decode_label(record[self.mask_key], name=f"{name} ({self.mask_key})")
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]} (width x height), but the picture is "
                f"{image.shape[1]}x{image.shape[0]}; a mask has its picture's size: prepare the data set again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=name), "id": identity}

    def id_of(self, index: int) -> str:
        """What an example is called; reads its record, but decodes no picture."""
        return self._identity(self.records[index], index)

    def _identity(self, record: Any, index: int) -> str:
        return os.path.splitext(record[self.id_key].decode())[0] if self.id_key else str(index)


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


def _prepare(tfds: Any, builder: Any, data_dir: str, archives: Archives) -> None:
    manual_dir = os.path.expanduser(archives.manual_dir) or os.path.join(data_dir, "downloads", "manual")
    missing = [file for file in archives.files if not os.path.exists(os.path.join(manual_dir, file))]
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        if missing:
            _check_network(data_dir, archives.host)
        builder.download_and_prepare(download_config=config)
    # Without a network, space, rights, TensorFlow or the right archives, each layer below has errors of its own.
    except Exception as error:
        put = f"Put {' and '.join(archives.files)} ({archives.page}) into the folder {manual_dir}"
        state = f"missing there: {', '.join(missing)}" if missing else "all are there: are they the published ones?"
        ways = [f"{put} ({state}) and run the same command again", *archives.otherwise]
        reason = " ".join(str(error).split())[:400]
        raise DataError(
            f"the data set {builder.info.full_name} is not prepared in {data_dir} and could not be downloaded and "
            f"prepared now ({type(error).__name__}: {reason}). What you can do:"
            + "".join(f"\n  - {way}" for way in ways)
        ) from error


def _check_network(data_dir: str, host: str) -> None:
    """Raises OSError at once where a download has no chance; TensorFlow Datasets would try on for minutes."""
    finished = glob.glob(os.path.join(glob.escape(data_dir), "downloads", "**", "*.INFO"), recursive=True)
    if not finished and not urllib.request.getproxies():
        socket.getaddrinfo(host, 443)
