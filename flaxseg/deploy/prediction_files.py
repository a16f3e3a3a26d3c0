"""The files that predictions are written to: masks, overlays, probabilities, and a summary of the class areas."""

import csv
import dataclasses
import io
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flaxseg.data.decode.images import decode_label
from flaxseg.data.sources.files import read_file
from flaxseg.data.types import Color
from flaxseg.deploy.files import write_file
from flaxseg.deploy.large_images import count_classes
from flaxseg.deploy.mask_tiff import georeference, write_mask_tiff
from flaxseg.deploy.outputs import UNCERTAINTIES, Prediction
from flaxseg.deploy.prediction_inputs import InputImage
from flaxseg.errors import DataError
from flaxseg.inference.uncertainty import relative_uncertainty
from flaxseg.report.drawing import append_legend, encode_png, overlay

_RECORD = "prediction.json"
_RESULTS = ("masks", "overlays", "probabilities", *UNCERTAINTIES, "videos", "areas", "summary.csv")
_FEW_CLASSES = 16
"""Up to this number of classes, comparing pixels with each of them is faster than a histogram."""

_ANY_SIZE = 1e6
"""Megapixels; masks that are there were once predicted, so that their size was checked."""


@dataclasses.dataclass(frozen=True)
class PredictionFiles:
    """The files of a folder of predictions.

    These are `masks/STEM.png`, class indices with the palette, or `.tif` and `.npy` for images of that format; where
    asked for, and except for large images, `overlays/STEM.png`, `probabilities/STEM.npz` and, in a folder named for the
    kind of uncertainty, `entropy/STEM.png`; `summary.csv`; and `prediction.json`, which names the network. Of a video,
    these are `videos/STEM.mp4`, the overlays; `areas/STEM.csv`, the number of pixels of each class in each frame; and
    `masks/STEM/NNNNNN.png`, where asked for.

    Attributes:
      folder: the folder.
      class_names: one name per class.
      palette: one color per class.
      overlays: write overlays, with a legend.
      probabilities: write probabilities, float16[H, W, K], as the array `probabilities`.
      uncertainty: write this kind of uncertainty as gray levels, from 0 where the network is certain to 255 where it is
        as uncertain as it can be; "" writes none. See `relative_uncertainty`.
      members: the number of networks in the ensemble.
      frame_masks: write the masks of the frames of videos.
      overwrite: replace files that exist.
    """

    folder: Path
    class_names: Sequence[str]
    palette: Sequence[Color]
    overlays: bool = False
    probabilities: bool = False
    uncertainty: str = ""
    members: int = 1
    frame_masks: bool = False
    overwrite: bool = False

    def claim(self, images: Sequence[InputImage], network: str, digest: str) -> None:
        """Records the network in the folder, so that the results of two networks are never mixed.

        Args:
          images: the images to predict.
          network: the name of the network.
          digest: a digest of what the predictions depend on.

        Raises:
          DataError: results would replace images; the folder contains predictions of another network, or of this one
            with other settings, or files of the user's under the names of results; or it cannot be written to.
        """
        path = self.folder / _RECORD
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{self.folder}: is a file; give the name of a folder as --output")
        results = {os.path.realpath(each) for image in images for each in self._paths(image)}
        for image in images:
            if os.path.realpath(image.path) in results:
                raise DataError(f"{image.path}: would be replaced by a result; give another --output")
        foreign = [name for name in _RESULTS if (self.folder / name).exists()]
        if foreign and not path.exists() and not self.overwrite:
            raise DataError(
                f"{self.folder}: has {', '.join(foreign)}, which this command has not written; give another --output, "
                "or --overwrite to replace files of the same names"
            )
        if path.exists() and not self.overwrite:
            there = _read_record(path)
            if there.get("digest") != digest:
                now = "with other scales, flips or tiles" if there.get("network") == network else f"of {network}"
                raise DataError(
                    f"{self.folder}: contains predictions of {there.get('network', 'something else')}, but these are "
                    f"{now}; give another --output, or --overwrite"
                )
        content = {"network": network, "digest": digest, "classes": [*self.class_names]}
        write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    @property
    def maps(self) -> tuple[str, ...]:
        """What has to be computed in addition to the classes."""
        return (*(["probabilities"] if self.probabilities else []), *([self.uncertainty] if self.uncertainty else []))

    def missing(self, image: InputImage) -> list[Path]:
        """Returns the files of an image that are still to be written, or are older than the image."""
        return [path for path in self._paths(image) if self.overwrite or not _is_newer(path, image.path)]

    def _paths(self, image: InputImage) -> list[Path]:
        if image.is_video:
            return [self.video(image), self.frame_areas(image), *([self._frames(image)] if self.frame_masks else [])]
        kinds = [("masks", image.mask_suffix)]
        kinds += [("overlays", ".png")] if self.overlays and not image.is_large else []
        kinds += [("probabilities", ".npz")] if self.probabilities and not image.is_large else []
        kinds += [(self.uncertainty, ".png")] if self.uncertainty and not image.is_large else []
        return [self.folder / kind / f"{image.stem}{suffix}" for kind, suffix in kinds]

    def write(
        self, image: InputImage, paths: Iterable[Path], prediction: Prediction, original: np.ndarray | None
    ) -> np.ndarray:
        """Writes the files of an image, and returns the number of pixels of each class, int64[K].

        Args:
          image: the image.
          paths: from `missing`.
          prediction: the prediction for the image.
          original: the image at its own size; needed for an overlay.

        Raises:
          DataError: a file cannot be written.
        """
        # The mask comes last: where it is, an interrupted command has written everything else.
        for path in sorted(paths, key=lambda path: path.relative_to(self.folder).parts[0] == "masks"):
            kind = path.relative_to(self.folder).parts[0]
            if kind == "masks":
                write_file(path, self._mask(image, prediction.label))
            elif kind == "overlays":
                assert original is not None, "an overlay needs the image"
                drawn = overlay(original, prediction.label, self.palette)
                write_file(path, encode_png(append_legend(drawn, self.class_names, self.palette)))
            elif kind == self.uncertainty:
                write_file(path, encode_png(self._gray(prediction.maps[self.uncertainty])))
            else:
                buffer = io.BytesIO()
                np.savez_compressed(buffer, probabilities=prediction.maps["probabilities"].astype(np.float16))
                write_file(path, buffer.getvalue())
        return self._areas(prediction.label)

    def areas(self, image: InputImage) -> tuple[tuple[int, int], np.ndarray]:
        """Returns the height and width of the mask of an image that exists, and the number of pixels of each class."""
        path = str(self.folder / "masks" / f"{image.stem}{image.mask_suffix}")
        if image.mask_suffix != ".png":
            return count_classes(path, len(self.class_names))
        label = decode_label(read_file(path), name=path, max_megapixels=_ANY_SIZE)
        return (label.shape[0], label.shape[1]), self._areas(label)

    def write_summary(self, rows: Iterable[tuple[InputImage, tuple[int, int], np.ndarray]]) -> None:
        """Writes `summary.csv`: a row for each image, with its size and the number of pixels of each class.

        Raises:
          DataError: the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "mask", "height", "width", *self.class_names])
        for image, size, areas in rows:
            writer.writerow([image.path, f"masks/{image.stem}{image.mask_suffix}", *size, *areas.tolist()])
        write_file(self.folder / "summary.csv", text.getvalue().encode())

    def video(self, video: InputImage) -> Path:
        """Returns the file of the overlays of a video."""
        return self.folder / "videos" / f"{video.stem}.mp4"

    def frame_areas(self, video: InputImage) -> Path:
        """Returns the file of the class areas of the frames of a video."""
        return self.folder / "areas" / f"{video.stem}.csv"

    def write_frame(
        self, video: InputImage, number: int, frame: np.ndarray, label: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Writes the mask of a frame, where asked for.

        Returns:
          The frame with the classes drawn over it, uint8[H, W, 3], and the number of pixels of each class, int64[K].

        Raises:
          WriteError: the mask cannot be written.
        """
        if self.frame_masks:
            write_file(self._frames(video) / f"{number:06}.png", self._palette_png(label))
        return overlay(frame, label, self.palette), self._areas(label)

    def remove_frames(self, video: InputImage, *, first: int) -> None:
        """Removes masks from frame `first` on, which are left of a longer video of the same name."""
        for path in self._frames(video).glob("[0-9]" * 6 + ".png") if self.frame_masks else ():
            if int(path.stem) >= first:
                path.unlink()

    def _frames(self, video: InputImage) -> Path:
        return self.folder / "masks" / video.stem

    def _mask(self, image: InputImage, label: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        if image.mask_suffix == ".npy":
            np.save(buffer, label)
        elif image.mask_suffix == ".tif":
            write_mask_tiff(buffer, label, self.palette, tags=georeference(image.path))
        else:
            return self._palette_png(label)
        return buffer.getvalue()

    def _gray(self, values: np.ndarray) -> np.ndarray:
        """Returns a measure of uncertainty as uint8[H, W]."""
        classes = len(self.class_names)
        found = relative_uncertainty(self.uncertainty, values, num_classes=classes, members=self.members)
        return np.rint(255 * found).astype(np.uint8)

    def _palette_png(self, label: np.ndarray) -> bytes:
        mask = Image.fromarray(label)
        mask.putpalette(np.asarray(self.palette, np.uint8).tobytes())
        # Runs of equal pixels are all there is to find in a mask: faster than any level, and a fifth smaller than 3.
        return encode_png(mask, compress_type=zlib.Z_RLE)

    def _areas(self, label: np.ndarray) -> np.ndarray:
        classes = len(self.class_names)
        if classes > _FEW_CLASSES:
            return np.bincount(label.ravel(), minlength=classes)
        return np.array([np.count_nonzero(label == index) for index in range(classes)])


def _is_newer(result: Path, image: str) -> bool:
    """Returns whether a result exists and was written after the image."""
    try:
        return result.stat().st_mtime_ns >= os.stat(image).st_mtime_ns
    except FileNotFoundError:
        return False


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}
