"""Which images and videos to predict, and what the files made of each are called."""

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from flaxseg.config.files import load_config
from flaxseg.config.validate import config_key
from flaxseg.data.decode.blocks import stored_size
from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.sources.image_files import SUFFIXES, list_image_files
from flaxseg.data.sources.pair_source import PairSource
from flaxseg.data.sources.wrappers import MappedSource
from flaxseg.data.splits import open_without_masks
from flaxseg.deploy import video
from flaxseg.errors import DataError, FlaxsegError, did_you_mean


@dataclasses.dataclass(frozen=True)
class MaskNames:
    """Where the masks of a folder of images and masks lie; see `flaxseg.data.folder`.

    Attributes:
      images: the folder of the images.
      masks: the folder of the masks.
      image_suffix: ending of the images' names after the common stem.
      mask_suffix: ending of the masks' names after the common stem.
    """

    images: str
    masks: str
    image_suffix: str
    mask_suffix: str

    def masks_among(self, names: Sequence[str]) -> set[str]:
        """Returns those of the names of files below one folder that are masks of others among them."""
        stems = {os.path.splitext(name)[0] for name in names}
        return {name for name in names if stems & self._images_of(os.path.splitext(name)[0])}

    def _images_of(self, stem: str) -> set[str]:
        """Returns the stems of the images that a file would be the mask of."""
        if not stem.endswith(self.mask_suffix):
            return set()
        common = stem.removesuffix(self.mask_suffix) + self.image_suffix
        images, masks = (os.path.normpath(path) + os.sep for path in (self.images, self.masks))
        found = {common} if self.mask_suffix else set()
        if masks != images and common.startswith(masks):
            found.add(images + common.removeprefix(masks))
        return found - {stem}


def recorded_masks(model: str) -> MaskNames | None:
    """Returns where the masks lie that a network was trained on; None if it records no folder of images and masks.

    Args:
      model: the directory of a run, or an exported folder with its configuration.
    """
    file = Path(model) / "config.json"
    try:
        data = load_config(str(file)).data if file.is_file() else None
    except FlaxsegError:
        return None  # Public networks have a file of this name, too.
    if data is None or data.name != "folder":
        return None
    options = {"images": "images", "masks": "masks", "image_suffix": "", "mask_suffix": ""} | dict(data.options)
    return MaskNames(options["images"], options["masks"], options["image_suffix"], options["mask_suffix"])


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An image or a video to predict.

    Attributes:
      path: its file.
      stem: the path of the files made of it, below their folder and without extension, such as `day1/a`.
      is_large: it has more pixels than are read at once, and is read and predicted in blocks.
    """

    path: str
    stem: str
    is_large: bool = False

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its extension."""
        return os.path.splitext(self.path)[1].lower() in video.SUFFIXES

    @property
    def mask_suffix(self) -> str:
        """The extension of its mask: TIFF and NPY files keep their format."""
        return {".tif": ".tif", ".tiff": ".tif", ".npy": ".npy"}.get(os.path.splitext(self.path)[1].lower(), ".png")


def find_images(
    inputs: Sequence[str],
    *,
    output: Path,
    max_megapixels: float = MAX_MEGAPIXELS,
    masks: MaskNames | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> list[InputImage]:
    """Returns the images and videos that a user's arguments name, in the order of their names.

    Folders are searched for images only, because videos take long: they are named one by one or by a pattern.

    An image in a folder keeps its path below that folder, one that a pattern finds its path below the part of the
    pattern without wildcards, and a file its name. Where names differ in their extension only, it becomes part of the
    stem.

    Args:
      inputs: files, folders, which are searched with their subfolders, and patterns such as `images/**/*.jpg`.
      output: the folder that the results go to; images in it are left out.
      max_megapixels: TIFF and NPY files of more million pixels are predicted in blocks.
      masks: which of the files in a folder are masks of others, and are left out; None for none.
      announce: called with a line of text for each folder whose masks are left out.

    Raises:
      DataError: an input that does not exist or contains no images, images whose results would have the same name, or
        an input that is the output.
    """
    found: dict[str, str] = {}
    for each in inputs:
        for path, name in _named(os.path.expanduser(each), output, masks, announce):
            earlier = found.setdefault(name, path)
            if os.path.realpath(earlier) != os.path.realpath(path):
                raise DataError(
                    f"{earlier} and {path}: their results would have the same name, {name}; give the folder that "
                    "contains both as --input, or predict them into two folders"
                )
    stems = Counter(os.path.splitext(name)[0] for name in found)
    images = []
    for name, path in sorted(found.items()):
        stem = os.path.splitext(name)[0]
        images.append(_input_image(path, stem if stems[stem] == 1 else name, max_megapixels))
    return images


def split_images(config: ConfigDict, split: str, *, max_megapixels: float = MAX_MEGAPIXELS) -> list[InputImage]:
    """Returns the images of a split of the dataset that a configuration names; masks need not exist.

    Args:
      config: the configuration, such as that of a run.
      split: the split, as the dataset names it.
      max_megapixels: see `find_images`.

    Raises:
      ConfigError: the dataset has no such split.
      DataError: the dataset is missing, or its images are not files of their own.
    """
    settings = config.data
    with config_key("data", data_dir="dir"):
        dataset = open_without_masks(settings.name, split, data_dir=settings.dir, options=settings.options)
    source = dataset.source
    while isinstance(source, MappedSource):
        source = source.source
    if not isinstance(source, PairSource):
        raise DataError(
            f"the images of the dataset {settings.name} are not files of their own; give the images to predict as "
            "--input"
        )
    return [_input_image(pair.image, pair.stem, max_megapixels) for pair in source.pairs]


def _input_image(path: str, stem: str, max_megapixels: float) -> InputImage:
    height, width = stored_size(path) or (0, 0)
    return InputImage(path, stem.replace(os.sep, "/"), is_large=height * width > max_megapixels * 1e6)


def _named(
    given: str, output: Path, masks: MaskNames | None, announce: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Yields the path of each image that one argument names, and its path below what the argument names."""
    if os.path.isdir(given):
        if os.path.realpath(given) == os.path.realpath(output):
            raise DataError(f"{given}: is the folder of the images and of the results; give another --output")
        names = list_image_files(given, exclude=str(output))
        if not names:
            raise DataError(f"{given}: contains no images; files of these types are read: {' '.join(SUFFIXES)}")
        left_out = masks.masks_among(names) if masks else set()
        if left_out:
            announce(f"{given}: {len(left_out)} masks are left out, such as {min(left_out)}; name a file to predict it")
        yield from ((os.path.join(given, name), name) for name in names if name not in left_out)
    elif os.path.exists(given):
        yield given, os.path.basename(given)
    else:
        yield from _matching(given, output)


def _matching(pattern: str, output: Path) -> Iterator[tuple[str, str]]:
    if not glob.has_magic(pattern):
        parent = os.path.dirname(pattern) or "."
        siblings = (
            [os.path.join(os.path.dirname(pattern), name) for name in os.listdir(parent)]
            if os.path.isdir(parent)
            else []
        )
        raise DataError(
            f"{pattern}: does not exist{did_you_mean(pattern, siblings)}; give a file, a folder, or a pattern such as "
            "'images/*.jpg'"
        )
    parts = Path(pattern).parts
    plain = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base, results = os.path.join(*parts[:plain], ""), os.path.realpath(output)
    paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    paths = [path for path in paths if not os.path.realpath(path).startswith(results + os.sep)]
    if not paths:
        raise DataError(f"{pattern}: no file matches this pattern; check its spelling")
    yield from ((path, os.path.relpath(path, base or ".")) for path in paths)
