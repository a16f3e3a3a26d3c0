"""Prepares oxford_iiit_pet with TensorFlow Datasets from a folder in the original layout, of any size.

    python tests/prepare_pets.py SRC DST

SRC contains images/ and annotations/; DST becomes a data_dir with the prepared dataset.
"""

import pathlib
import sys
import tarfile
import tempfile
from unittest import mock

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import DownloadManager


def write_archives(source: pathlib.Path, target: pathlib.Path) -> None:
    """Packs images/ and annotations/ of `source` into the two archives that the dataset is published as."""
    target.mkdir(parents=True, exist_ok=True)
    for part in ("images", "annotations"):
        # The published archives are plain tar files, despite their name.
        with tarfile.open(target / f"{part}.tar.gz", "w") as archive:
            archive.add(source / part, arcname=part)


def any_archives() -> mock._patch:
    """Returns a patch under which TensorFlow Datasets accepts archives with any checksum."""
    return mock.patch.object(DownloadManager, "_register_or_validate_checksums")


def prepare(source: pathlib.Path, target: pathlib.Path, *, file_format: str = "array_record") -> None:
    """Prepares the dataset in the folder `target` with the builder of TensorFlow Datasets."""
    with tempfile.TemporaryDirectory() as archives:
        write_archives(source, pathlib.Path(archives))
        builder = tfds.builder("oxford_iiit_pet", data_dir=target, file_format=file_format)
        config = tfds.download.DownloadConfig(manual_dir=archives, try_download_gcs=False)
        with any_archives():
            builder.download_and_prepare(download_dir=f"{archives}/downloads", download_config=config)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    prepare(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
