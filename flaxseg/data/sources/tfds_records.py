"""Records of datasets in TensorFlow Datasets' format, prepared if necessary, and read without TensorFlow."""

import dataclasses
import glob
import os
import socket
import urllib.parse
import urllib.request
from typing import Any

from flaxseg.data.sources.archives import check_members
from flaxseg.errors import ArgumentError, DataError

_MAX_REASON = 400

ALTERNATIVES = (
    "Or unpack the archives into one folder and pass that folder as data_dir: it is read as it is",
    "Or train on the dataset `shapes`, which is generated and needs no files",
)
"""What else a user can do if a dataset whose original layout is known cannot be prepared."""

_INSTALL = (
    "Install TensorFlow, which only preparing the dataset needs, and try again: pip install 'flaxseg[tensorflow]'"
)


@dataclasses.dataclass(frozen=True)
class Archives:
    """The files that TensorFlow Datasets prepares a dataset from, if they cannot be downloaded.

    Attributes:
      files: the names of the archives; () for those that TensorFlow Datasets knows, if any.
      manual_dir: the folder to put them in; "" for `downloads/manual` in the data directory.
      host: the server that provides them; "" if `files` is ().
      page: where to get them; "" if `files` is ().
      alternatives: other solutions for the user, one sentence each.
    """

    files: tuple[str, ...] = ()
    manual_dir: str = ""
    host: str = ""
    page: str = ""
    alternatives: tuple[str, ...] = ()


def open_prepared(name: str, split: str, *, data_dir: str, encoded: tuple[str, ...], archives: Archives) -> Any:
    """Returns the stored records of one split, after preparing the dataset if it is not prepared.

    It is prepared from archives if these are present, otherwise by downloading.

    Args:
      name: the name of the dataset in TensorFlow Datasets, with its config after a slash if it has several.
      split: a split, or a slice of one such as `train[:90%]`.
      data_dir: the folder of prepared datasets; "" for the default of TensorFlow Datasets.
      encoded: the features that are images; they are returned as the stored bytes.
      archives: the files to prepare the dataset from.

    Returns:
      Random access to the records, each a dict by feature, with images as bytes.

    Raises:
      ArgumentError: an unknown split.
      DataError: a dataset that was prepared in a format without random access, or that cannot be prepared.
    """
    return open_records(find_builder(name, data_dir=data_dir), split, encoded=encoded, archives=archives)


def find_builder(name: str, *, data_dir: str) -> Any:
    """Returns the builder of a dataset, prepared or not. See `open_prepared`.

    Raises:
      DataError: the dataset was prepared in a format without random access.
    """
    import tensorflow_datasets as tfds

    data_dir = os.path.expanduser(data_dir) if data_dir else tfds.core.constants.DATA_DIR
    try:
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except ValueError as error:
        # A prepared dataset keeps the format that it was prepared in; requesting another one raises this error.
        if "already set" not in str(error):
            raise
        raise DataError(
            f"{name} in {data_dir} was prepared in a format without random access (tfrecord is the default of "
            "TensorFlow Datasets): prepare it again as array_record by passing an empty folder as data_dir (move the "
            "folder 'downloads' there first to keep what was downloaded)"
        ) from error


def open_records(builder: Any, split: str, *, encoded: tuple[str, ...], archives: Archives) -> Any:
    """Returns the records of one split of the dataset of a builder, after preparing it if necessary.

    See `open_prepared` for the arguments, the result and the errors that this raises.
    """
    import tensorflow_datasets as tfds

    if not builder.is_prepared():
        _prepare(tfds, builder, archives)
    skipped = {key: tfds.decode.SkipDecoding() for key in encoded}
    try:
        return builder.as_data_source(split=split, decoders=skipped)
    except (ValueError, AssertionError) as error:
        raise ArgumentError(
            "split",
            split,
            f"{builder.info.name} in {builder.data_dir} has no such split; it has {', '.join(builder.info.splits)}, "
            "and slices of them such as 'train[:90%]'",
        ) from error


def _prepare(tfds: Any, builder: Any, archives: Archives) -> None:
    data_dir = str(builder.data_dir_root)
    manual_dir = os.path.expanduser(archives.manual_dir) or os.path.join(data_dir, "downloads", "manual")
    known = archives if archives.files else _known_downloads(builder, archives)
    # If no names are known, any file in the folder may be read.
    files = known.files or tuple(os.listdir(manual_dir) if os.path.isdir(manual_dir) else ())
    missing = [file for file in files if not os.path.isfile(os.path.join(manual_dir, file))]
    for file in files:
        if file not in missing:
            check_members(os.path.join(manual_dir, file))
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # One of several configs may need only some of the downloads that TensorFlow Datasets knows.
        if missing and (known is archives or len(missing) == len(files)):
            _check_network(data_dir, known.host)
        builder.download_and_prepare(download_config=config)
    # Without a network, disk space, permissions, TensorFlow or the right archives, each layer has its own errors.
    except Exception as error:
        put = f"Put {' and '.join(known.files) or 'its archives'} ({known.page}) into the folder {manual_dir}"
        if known.files:
            state = f"missing there: {', '.join(missing)}" if missing else "all are there: are they the published ones?"
            put += f" ({state})"
        solutions = [f"{put} and try again", *archives.alternatives]
        if "No module named 'tensorflow'" in str(error):
            solutions = [_INSTALL, *archives.alternatives]
        reason = " ".join(str(error).split())[:_MAX_REASON]
        raise DataError(
            f"the dataset {builder.info.full_name} is not prepared in {data_dir}, and downloading and preparing it "
            f"failed ({type(error).__name__}: {reason}). What you can do:"
            + "".join(f"\n  - {solution}" for solution in solutions)
        ) from error


def _known_downloads(builder: Any, archives: Archives) -> Archives:
    """Returns `archives` with the names and the server of the downloads that TensorFlow Datasets knows, if any."""
    downloads = builder.url_infos or {}
    return dataclasses.replace(
        archives,
        files=tuple(sorted({download.filename for download in downloads.values()})),
        host=next((urllib.parse.urlsplit(url).hostname or "" for url in downloads), ""),
        page=builder.info.homepage or "see its page in the catalog of TensorFlow Datasets",
    )


def _check_network(data_dir: str, host: str) -> None:
    """Raises OSError at once if a download cannot succeed; TensorFlow Datasets would retry for minutes."""
    finished = glob.glob(os.path.join(glob.escape(data_dir), "downloads", "**", "*.INFO"), recursive=True)
    if not finished and not urllib.request.getproxies():
        socket.getaddrinfo(host, 443)
