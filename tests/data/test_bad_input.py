"""Every kind of bad or unusual file: the error it raises, or what it is read as. No file is ever changed."""

import dataclasses
import hashlib
import io
import os
import pathlib
import zlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from encoded_files import npy, tiff
from PIL import Image

from flaxseg.data import Example, SegmentationDataset, folder
from flaxseg.data.statistics import compute_statistics
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError
from flaxseg.losses import weighted_sum

CHECKS = np.indices((24, 36)).sum(0) % 2
NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
REMEDY = "restore it, or leave it out"


def encoded(pixels: np.ndarray | list | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_size(png: bytes, width: int, height: int) -> bytes:
    """Returns a PNG whose header declares another size."""
    header = png[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def with_width(data: bytes, width: int) -> bytes:
    """Returns a TIFF whose header declares another width."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["ImageWidth"].valueoffset
    return data[:place] + width.to_bytes(2, "little") + data[place + 2 :]


def rotated(pixels: np.ndarray) -> bytes:
    """Returns a JPEG whose EXIF orientation asks for a rotation by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(pixels, "JPEG", exif=exif, quality=95)


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (self.path,)


@dataclasses.dataclass(frozen=True)
class Bad:
    """One kind of bad input.

    Attributes:
      files: contents by path, or functions from the dataset's folder to them.
      message: parts of the message: the file, the problem and the remedy; `{root}` stands for the dataset's folder.
      options: options of `folder`.
      complete: add a valid image or mask if `files` has none with the stem `a`.
    """

    files: dict[str, bytes | Callable[[pathlib.Path], bytes]]
    message: tuple[str, ...]
    options: dict[str, object] = dataclasses.field(default_factory=dict)
    complete: bool = True


UPRIGHT_MASK = encoded(np.repeat([[1]] * 12 + [[0]] * 24, 24, 1))
LEFT_IS_WHITE = np.where(np.arange(36) < 12, 255, 0)[None, :, None].repeat(24, 0).repeat(3, 2)
COLORED = np.zeros((24, 36, 3), np.uint8)
COLORED[:12] = (128, 64, 0)
COLORED[0, 0] = (1, 2, 3)
VOLUME = np.zeros((5, 24, 36), np.uint8)
WITH_NAN = np.full((24, 36), 0.5, np.float32)
WITH_NAN[0, :4] = np.nan, np.inf, -np.inf, np.nan

REJECTED = {
    "truncated JPEG": Bad({"images/a.jpg": encoded(NOISE, "JPEG")[:-30]}, ("a.jpg: is a JPEG, truncated", REMEDY)),
    "truncated PNG": Bad({"images/a.png": encoded(NOISE)[:-1000]}, ("a.png: cannot be decoded", "truncated", REMEDY)),
    "truncated mask": Bad({"masks/a.png": encoded(NOISE)[:-1000]}, ("masks/a.png: cannot be decoded", REMEDY)),
    "empty image": Bad({"images/a.png": b""}, ("images/a.png: is empty (0 bytes)", REMEDY)),
    "empty mask": Bad({"masks/a.png": b""}, ("masks/a.png: is empty (0 bytes)", REMEDY)),
    "not an image": Bad({"images/a.png": b"<html>gone"}, ("a.png: is not an image", "b'<html>go'", REMEDY)),
    "truncated TIFF": Bad({"images/a.tif": tiff(NOISE)[:-100]}, ("images/a.tif: cannot be decoded", REMEDY)),
    "truncated NPY": Bad({"images/a.npy": npy(NOISE)[:-1]}, ("images/a.npy: cannot be decoded", "truncated", REMEDY)),
    "TIFF wider than its data": Bad(
        {"images/a.tif": with_width(tiff(NOISE, metadata=None), 3000)}, ("images/a.tif: cannot be decoded", REMEDY)
    ),
    "TIFF that declares too many pixels": Bad(
        {"images/a.tif": with_width(tiff(NOISE, metadata=None), 60_000)},
        ("images/a.tif: is 60000x24, 1.4 megapixels, but at most 1 are read", "raise max_megapixels"),
        {"max_megapixels": 1.0},
    ),
    "image over the size limit": Bad(
        {"images/a.png": with_size(encoded(NOISE), 9000, 8000)},
        ("images/a.png: is 9000x8000, 72.0 megapixels", "at most 64", "cut it into tiles", "raise max_megapixels"),
    ),
    "mask over the size limit": Bad(
        {"masks/a.png": with_size(encoded(CHECKS), 9000, 8000)},
        ("masks/a.png: is 9000x8000, 72.0 megapixels", "at most 64", "raise max_megapixels"),
        {"palette": ((0, 0, 0), (9, 9, 9))},
    ),
    "NPY of Python objects": Bad(
        {"images/a.npy": lambda root: npy(np.array([[Touch(root / "ran")]], object))},
        ("images/a.npy: contains pickled Python objects, which are never loaded", "allow_pickle=False"),
    ),
    "NaN": Bad(
        {"images/a.tif": tiff(WITH_NAN)},
        ("images/a.tif: 4 of its values (0.46%) are NaN or infinite", "replace them by a finite number"),
        {"value_range": (0, 1)},
    ),
    "float without a range": Bad(
        {"images/a.npy": npy(np.linspace(-2, 7, 24 * 36, dtype=np.float32).reshape(24, 36))},
        ("images/a.npy: contains float32 values from -2.0 to 7.0", "give value_range=(low, high)"),
    ),
    "ranges for other channels": Bad(
        {"images/a.png": encoded(NOISE)},
        ("images/a.png: has 3 channels, but value_range has 2 pairs", "one pair per channel"),
        {"value_range": ((0, 1), (0, 1))},
    ),
    "stack of pages": Bad(
        {"images/a.tif": tiff(VOLUME, metadata=None, photometric="minisblack")},
        ("images/a.tif: is a TIFF with the axes IYX", "a stack of 5 pages", "Save each image as its own file"),
    ),
    "channels that cannot be converted": Bad(
        {"images/a.npy": npy(VOLUME)},
        ("images/a.npy: has 5 channels, but channels=3 only converts", "leave `channels` out to use all"),
        {"channels": 3},
    ),
    "EXIF-rotated image, unrotated mask": Bad(
        {"images/a.jpg": rotated(NOISE)},
        ("masks/a.png: is 36x24", "a.jpg is 24x36 as displayed (after its EXIF orientation)", "export one of them"),
    ),
    "mask of another size": Bad(
        {"masks/a.png": encoded(np.zeros((24, 35)))},
        (
            "{root}/masks/a.png: is 35x24",
            "{root}/images/a.png is 36x24",
            "a mask must have the size of its image: export",
        ),
    ),
    "colored mask without colors": Bad(
        {"masks/a.png": encoded(COLORED)},
        (
            "masks/a.png: is a color image",
            "folder(colors=((0,0,0),(128,64,0),(1,2,3),)), all in this file",
            "with `ignore_colors` for those of ignored pixels",
            "convert the masks to gray or palette PNG",
        ),
    ),
    "colored mask with an unknown color": Bad(
        {"masks/a.png": encoded(COLORED)},
        (
            "masks/a.png: 0.12% of its pixels have colors that belong to no class: (1,2,3). The classes have ",
            "The classes have (0,0,0), (128,64,0); add each other color to `colors` (a class) or to `ignore_colors`",
        ),
        {"values": None, "colors": ((0, 0, 0), (128, 64, 0))},
    ),
    "mask of 16-bit numbers": Bad(
        {"masks/a.tif": tiff(CHECKS.astype(np.uint16) * 700)},
        ("masks/a.tif: has mask values from 0 to 700, but labels are", "one byte; map the classes to 0..254"),
    ),
    "values without a class": Bad(
        {"masks/a.png": encoded([[0, 1, 7, 8, 9, 30, 255, 0]]), "images/a.png": encoded(NOISE[:1, :8])},
        (
            "masks/a.png: contains the mask values 7..9, 30 (50.00%",
            "values 0..1, and ignored are 255",
            "add each other value to `values` (a class) or to `ignore_values`",
        ),
    ),
    "JPEG mask": Bad(
        {"masks/a.jpg": encoded(CHECKS, "JPEG")},
        ("masks/a.jpg: is a JPEG, whose compression changes the values", "save the mask as PNG"),
    ),
    "empty folder": Bad(
        {"images/notes.txt": b"", "masks/a.png": encoded(CHECKS)},
        ("has 1 problem:", "the folder {root}/images contains no images", "extensions: .jpg"),
        complete=False,
    ),
    "side by side": Bad(
        {"a.png": encoded(NOISE), "a_mask.png": encoded(CHECKS), "b.png": encoded(NOISE)}
        | {"b_mask.png": encoded(CHECKS)},
        ("neither the folder {root}/images nor {root}/masks exists ({root} contains a.png, a_mask.png, ",
         "side by side in {root}: use folder(images='.', masks='.', mask_suffix='_mask')"),
        complete=False,
    ),
    "folders of other names": Bad(
        {"photos/a.png": encoded(NOISE), "labels/a.png": encoded(CHECKS)},
        ("neither the folder {root}/images nor {root}/masks exists ({root} contains labels, photos)",
         "The folders may be photos and labels: use folder(images='photos', masks='labels')"),
        complete=False,
    ),
    "Pascal VOC's folders": Bad(
        {"JPEGImages/a.jpg": encoded(NOISE, "JPEG"), "SegmentationClass/a.png": encoded(CHECKS)}
        | {f"ImageSets/Segmentation/{split}.txt": b"a" for split in ("train", "val")}
        | {"SegmentationObject/a.png": encoded(CHECKS), "Annotations/a.xml": b""},
        ("neither the folder {root}/images nor {root}/masks exists",
         "The folders may be JPEGImages and SegmentationClass: use folder(images='JPEGImages', "
         "masks='SegmentationClass', split_list='ImageSets/Segmentation/{{split}}.txt')"),
        complete=False,
    ),
    "missing folder": Bad(
        {"other/a.png": encoded(CHECKS)},
        ("has 1 problem:", "neither the folder {root}/images nor {root}/masks exists ({root} contains other)",
         "`images`"),
        complete=False,
    ),
    "unpaired files": Bad(
        {"images/b.png": encoded(NOISE), "masks/c.png": encoded(CHECKS)},
        ("has 2 problems. To skip files without a counterpart, ", "the image b.png has no mask in {root}/masks",
         "the mask c.png has no image in {root}/images", "path without extension"),
    ),
    "two images with the same stem": Bad(
        {"images/a.png": encoded(NOISE), "images/a.jpg": encoded(NOISE, "JPEG")},
        ("a.jpg and a.png in {root}/images have the same stem: keep one of them",),
    ),
}  # fmt: skip


def write_files(root: pathlib.Path, files: dict, *, complete: bool = True) -> pathlib.Path:
    """Writes the files, and with `complete` the missing image or mask."""
    files = dict(files)
    for part, right in (("images", NOISE), ("masks", CHECKS)):
        if complete and not any(path.startswith(f"{part}/a.") for path in files):
            files[f"{part}/a.png"] = encoded(right)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content(root) if callable(content) else content)
    return root


def tree(root: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Returns the digest and the modification time of everything below `root`."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (hashlib.sha256(content).hexdigest(), path.stat().st_mtime_ns)
    return found


def open_folder(root: pathlib.Path, **options: object) -> SegmentationDataset:
    return folder("all", data_dir=str(root), **{"values": (0, 1), **options})


@pytest.mark.parametrize("kind", REJECTED)
def test_a_message_names_the_file_the_problem_and_the_remedy(tmp_path: pathlib.Path, kind: str) -> None:
    bad = REJECTED[kind]
    write_files(tmp_path, bad.files, complete=bad.complete)
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        open_folder(tmp_path, **bad.options).source[0]
    for part in bad.message:
        assert part.format(root=tmp_path) in str(caught.value)
    assert tree(tmp_path) == before


def is_noise(example: Example) -> bool:
    return np.array_equal(example["image"], NOISE) and np.array_equal(example["label"], CHECKS)


def is_upright(example: Example) -> bool:
    """Returns whether the part that was white on the left is at the top, where the mask has class 1."""
    return np.array_equal(example["image"].mean(2) > 127, example["label"]) and example["label"][:12].all()


def is_red_beside_white(example: Example) -> bool:
    """Returns whether full yellow and magenta became red, and no ink became white."""
    return np.abs(example["image"][0, [0, -1]].astype(int) - [[254, 0, 0], [255, 255, 255]]).max() <= 2


def has_zero_loss(example: Example) -> bool:
    logits, label = jnp.ones((1, 24, 36, 2)), jnp.asarray(example["label"])[None]
    loss, _ = weighted_sum({"cross_entropy": 1.0})(logits, label)
    return (example["label"] == IGNORE_LABEL).all() and float(loss) == 0.0


CMYK = np.zeros((24, 36, 4), np.uint8)
CMYK[:, :18, 1:3] = 255
GIF = np.zeros((24, 36, 3), np.uint8)
GIF[:, 20:] = (250, 10, 60)
WIDE = np.full((24, 36), 257 * 100 + 128, np.uint16)


def with_palette() -> Image.Image:
    image = Image.fromarray(CHECKS.astype(np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 7])
    return image


READ = {
    "PNG named as a JPEG": ({"images/a.jpg": encoded(NOISE)}, {}, is_noise),
    "GIF named as a JPEG": ({"images/a.jpg": encoded(GIF, "GIF")}, {}, lambda e: np.array_equal(e["image"], GIF)),
    "transparent image": (
        {"images/a.png": encoded(np.concatenate([NOISE, np.full((24, 36, 1), 7, np.uint8)], 2))}, {}, is_noise,
    ),
    "CMYK": ({"images/a.jpg": encoded(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=95)}, {}, is_red_beside_white),
    "16-bit image": (
        {"images/a.png": encoded(Image.fromarray(WIDE))}, {},
        lambda e: e["image"].dtype == np.float32 and np.allclose(e["image"], 100 + 128 / 257),
    ),
    "EXIF-rotated image, upright mask": (
        {"images/a.jpg": rotated(LEFT_IS_WHITE), "masks/a.png": UPRIGHT_MASK}, {}, is_upright,
    ),
    "palette mask": ({"masks/a.png": encoded(with_palette())}, {}, is_noise),
    "colored mask with colors": (
        {"masks/a.png": encoded(np.array([(7, 8, 9), (255, 0, 0)], np.uint8)[CHECKS])},
        {"values": None, "colors": ((7, 8, 9), (255, 0, 0))}, is_noise,
    ),
    "names with non-ASCII characters": (
        {"images/Käse/猫 1.png": encoded(NOISE), "masks/Käse/猫 1.png": encoded(CHECKS)},
        {"complete": False}, lambda e: e["id"] == "Käse/猫 1" and is_noise(e),
    ),
    "mask of only ignored pixels": ({"masks/a.png": encoded(np.full((24, 36), 255))}, {}, has_zero_loss),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_unusual_but_valid_files_are_read(tmp_path: pathlib.Path, kind: str) -> None:
    files, options, is_valid = READ[kind]
    options = dict(options)
    write_files(tmp_path, files, complete=options.pop("complete", True))
    before = tree(tmp_path)
    assert is_valid(open_folder(tmp_path, **options).source[0])
    assert tree(tmp_path) == before


def test_the_applied_exif_orientation_is_reported(tmp_path: pathlib.Path) -> None:
    files = {"images/b.png": encoded(NOISE), "masks/b.png": encoded(CHECKS), "masks/a.png": UPRIGHT_MASK}
    files["images/a.jpg"] = rotated(LEFT_IS_WHITE)
    for name, orientation in (("c", 3), ("d", 1), ("e", 99)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files |= {f"images/{name}.png": encoded(NOISE, exif=exif), f"masks/{name}.png": encoded(CHECKS)}
    assert compute_statistics(open_folder(write_files(tmp_path, files)), num_threads=0).orientations.tolist() == [
        6,
        1,
        3,
        1,
        1,
    ]


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_that_changes_after_its_first_read_is_rejected(tmp_path: pathlib.Path, part: str) -> None:
    source = open_folder(write_files(tmp_path, {})).source
    smaller = source.reduced((12, 12))
    assert is_noise(source[0]) and is_noise(source[0])
    path = tmp_path / part / "a.png"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    for reader in (source, smaller):
        with pytest.raises(DataError, match=rf"{part}/a\.png: has changed since it was first read.*Restore the file"):
            reader[0]
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_noise(source[0])


def test_a_deleted_file_is_named(tmp_path: pathlib.Path) -> None:
    source = open_folder(write_files(tmp_path, {})).source
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(DataError, match=r"images/a\.png: cannot be read \(No such file.*leave it out"):
        source[0]


@pytest.mark.parametrize("directory", ["images", "masks"])
def test_a_file_name_that_is_not_utf_8_is_named(tmp_path: pathlib.Path, directory: str) -> None:
    root = write_files(tmp_path, {})
    name = os.fsencode(root / directory) + b"/b\xff.png"
    try:
        with open(name, "wb") as file:
            file.write(encoded(CHECKS))
    except OSError:
        pytest.skip("this file system only stores names in UTF-8")
    with pytest.raises(DataError, match=r"the name of 'b\\udcff.png' in .* is not UTF-8: rename it, for example with"):
        open_folder(root)
