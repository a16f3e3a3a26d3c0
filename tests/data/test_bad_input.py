"""Each kind of bad or odd file that people have: what is said of it, or what it reads as; no file is ever changed."""

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
from flaxseg.data.statistics import scan
from flaxseg.data.types import IGNORE_LABEL, reduced
from flaxseg.errors import DataError
from flaxseg.losses import weighted_sum

CHECKS = np.indices((24, 36)).sum(0) % 2
NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
RESTORE = "restore it, or take it out of the dataset"


def encoded(pixels: np.ndarray | list | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG whose header claims another size."""
    header = png[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def with_width(data: bytes, width: int) -> bytes:
    """A TIFF whose header claims another width."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["ImageWidth"].valueoffset
    return data[:place] + width.to_bytes(2, "little") + data[place + 2 :]


def turned(pixels: np.ndarray) -> bytes:
    """A lying JPEG that is to be shown turned by 90 degrees to the right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(pixels, "JPEG", exif=exif, quality=95)


class Touch:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (self.path,)


@dataclasses.dataclass(frozen=True)
class Bad:
    """One kind of input.

    Attributes:
      files: contents by path, or what makes them of the dataset's folder.
      says: parts of the message: the file, the problem and the remedy; `{root}` stands for the dataset's folder.
      options: of `folder`.
      complete: whether a right picture or mask is added if `files` has none for the stem `a`.
    """

    files: dict[str, bytes | Callable[[pathlib.Path], bytes]]
    says: tuple[str, ...]
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

REFUSED = {
    "JPEG cut off": Bad({"images/a.jpg": encoded(NOISE, "JPEG")[:-30]}, ("images/a.jpg: is a JPEG, cut off", RESTORE)),
    "PNG cut off": Bad({"images/a.png": encoded(NOISE)[:-1000]}, ("a.png: cannot be decoded", "cut off", RESTORE)),
    "mask cut off": Bad({"masks/a.png": encoded(NOISE)[:-1000]}, ("masks/a.png: cannot be decoded", RESTORE)),
    "empty picture": Bad({"images/a.png": b""}, ("images/a.png: is empty (0 bytes)", RESTORE)),
    "empty mask": Bad({"masks/a.png": b""}, ("masks/a.png: is empty (0 bytes)", RESTORE)),
    "no picture": Bad({"images/a.png": b"<html>gone"}, ("a.png: is no picture", "begins with b'<html>go'", RESTORE)),
    "TIFF cut off": Bad({"images/a.tif": tiff(NOISE)[:-100]}, ("images/a.tif: cannot be decoded", RESTORE)),
    "NPY cut off": Bad({"images/a.npy": npy(NOISE)[:-1]}, ("images/a.npy: cannot be decoded", "cut off", RESTORE)),
    "TIFF wider than its data": Bad(
        {"images/a.tif": with_width(tiff(NOISE, metadata=None), 3000)}, ("images/a.tif: cannot be decoded", RESTORE)
    ),
    "TIFF that claims too much": Bad(
        {"images/a.tif": with_width(tiff(NOISE, metadata=None), 60_000)},
        ("images/a.tif: is 60000x24, 1.4 megapixels, and at most 1 are read", "data.options.max_megapixels"),
        {"max_megapixels": 1.0},
    ),
    "picture over the cap": Bad(
        {"images/a.png": with_size(encoded(NOISE), 9000, 8000)},
        ("images/a.png: is 9000x8000, 72.0 megapixels", "at most 64", "cut it into tiles", "data.options.max_mega"),
    ),
    "mask over the cap": Bad(
        {"masks/a.png": with_size(encoded(CHECKS), 9000, 8000)},
        ("masks/a.png: is 9000x8000, 72.0 megapixels", "at most 64", "data.options.max_megapixels"),
        {"palette": ((0, 0, 0), (9, 9, 9))},
    ),
    "NPY of Python objects": Bad(
        {"images/a.npy": lambda root: npy(np.array([[Touch(root / "ran")]], object))},
        ("images/a.npy: holds pickled Python objects, which are never loaded", "allow_pickle=False"),
    ),
    "NaN": Bad(
        {"images/a.tif": tiff(WITH_NAN)},
        ("images/a.tif: 4 of its values (0.46%) are NaN or infinite", "write a finite number"),
        {"value_range": (0, 1)},
    ),
    "float without a range": Bad(
        {"images/a.npy": npy(np.linspace(-2, 7, 24 * 36, dtype=np.float32).reshape(24, 36))},
        ("images/a.npy: holds float32 values from -2.0 to 7.0", "data.options.value_range=(low, high)"),
    ),
    "ranges for other channels": Bad(
        {"images/a.png": encoded(NOISE)},
        ("images/a.png: has 3 channel(s), but data.options.value_range has 2 pairs", "one pair for each channel"),
        {"value_range": ((0, 1), (0, 1))},
    ),
    "stack of pages": Bad(
        {"images/a.tif": tiff(VOLUME, metadata=None, photometric="minisblack")},
        ("images/a.tif: is a TIFF with the axes IYX", "a stack of 5 pages", "save each picture as a file of its own"),
    ),
    "channels that cannot be converted": Bad(
        {"images/a.npy": npy(VOLUME)},
        ("images/a.npy: has 5 channels, and data.options.channels=3", "leave it out to use all"),
        {"channels": 3},
    ),
    "EXIF-turned picture, raw mask": Bad(
        {"images/a.jpg": turned(NOISE)},
        ("masks/a.png: is 36x24", "a.jpg is 24x36 as displayed (EXIF orientation carried out)", "export one of them"),
    ),
    "mask of another size": Bad(
        {"masks/a.png": encoded(np.zeros((24, 35)))},
        ("{root}/masks/a.png: is 35x24", "{root}/images/a.png is 36x24", "a mask has its picture's size: export"),
    ),
    "colored mask without a table": Bad(
        {"masks/a.png": encoded(COLORED)},
        (
            "masks/a.png: is a colored picture",
            "--config.data.options.colors='((0,0,0),(128,64,0),(1,2,3),)', all in this file",
            "--config.data.options.ignore_colors",
            "convert the masks to gray or palette PNG",
        ),
    ),
    "colored mask with a color that is not in the table": Bad(
        {"masks/a.png": encoded(COLORED)},
        (
            "masks/a.png: 0.12% of its pixels have colors that belong to no class: (1,2,3),.",
            "data.options.colors (a class) or data.options.ignore_colors",
        ),
        {"values": None, "colors": ((0, 0, 0), (128, 64, 0))},
    ),
    "mask of 16-bit numbers": Bad(
        {"masks/a.tif": tiff(CHECKS.astype(np.uint16) * 700)},
        ("masks/a.tif: has mask values from 0 to 700, but labels are one byte", "map the classes to 0..254"),
    ),
    "values without a class": Bad(
        {"masks/a.png": encoded([[0, 1, 7, 8, 9, 30, 255, 0]]), "images/a.png": encoded(NOISE[:1, :8])},
        (
            "masks/a.png: holds the mask value(s) 7..9, 30 (50.00%",
            "values 0..1, ignored are 255",
            "name each further value in data.options.values (a class) or data.options.ignore_values",
        ),
    ),
    "JPEG mask": Bad(
        {"masks/a.jpg": encoded(CHECKS, "JPEG")},
        ("masks/a.jpg: is a JPEG, which changes values to save space", "save the mask as PNG"),
    ),
    "empty folder": Bad(
        {"images/notes.txt": b"", "masks/a.png": encoded(CHECKS)},
        ("has 1 problem(s)", "the folder {root}/images holds no pictures", "extensions: .jpg"),
        complete=False,
    ),
    "path that is not there": Bad(
        {"other/a.png": encoded(CHECKS)},
        ("has 2 problem(s)", "the folder {root}/images does not exist", "the folder {root}/masks does not exist",
         "data.options.images"),
        complete=False,
    ),
    "unpaired files": Bad(
        {"images/b.png": encoded(NOISE), "masks/c.png": encoded(CHECKS)},
        ("has 2 problem(s)", "the picture b.png has no mask in {root}/masks",
         "the mask c.png has no picture in {root}/images", "path without extension"),
    ),
    "two pictures with one stem": Bad(
        {"images/a.png": encoded(NOISE), "images/a.jpg": encoded(NOISE, "JPEG")},
        ("a.jpg and a.png in {root}/images have one stem: keep one of them",),
    ),
}  # fmt: skip


def made(root: pathlib.Path, files: dict, *, complete: bool = True) -> pathlib.Path:
    """Writes the files, and with `complete` the picture or mask that is missing."""
    files = dict(files)
    for part, right in (("images", NOISE), ("masks", CHECKS)):
        if complete and not any(path.startswith(f"{part}/a.") for path in files):
            files[f"{part}/a.png"] = encoded(right)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content(root) if callable(content) else content)
    return root


def tree(root: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Digest and time of modification of everything below `root`."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (hashlib.sha256(content).hexdigest(), path.stat().st_mtime_ns)
    return found


def opened(root: pathlib.Path, **options: object) -> SegmentationDataset:
    return folder("all", data_dir=str(root), **{"values": (0, 1), **options})


@pytest.mark.parametrize("kind", REFUSED)
def test_a_message_names_the_file_the_problem_and_the_remedy(tmp_path: pathlib.Path, kind: str) -> None:
    bad = REFUSED[kind]
    made(tmp_path, bad.files, complete=bad.complete)
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        opened(tmp_path, **bad.options).source[0]
    for part in bad.says:
        assert part.format(root=tmp_path) in str(caught.value)
    assert tree(tmp_path) == before


def is_noise(example: Example) -> bool:
    return np.array_equal(example["image"], NOISE) and np.array_equal(example["label"], CHECKS)


def is_upright(example: Example) -> bool:
    """What was white on the left is on top, where the mask has class 1."""
    return np.array_equal(example["image"].mean(2) > 127, example["label"]) and example["label"][:12].all()


def is_red_beside_white(example: Example) -> bool:
    """Of CMYK without key: full yellow and magenta leave red, nothing leaves white."""
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
    "transparent picture": (
        {"images/a.png": encoded(np.concatenate([NOISE, np.full((24, 36, 1), 7, np.uint8)], 2))}, {}, is_noise,
    ),
    "CMYK": ({"images/a.jpg": encoded(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=95)}, {}, is_red_beside_white),
    "16-bit picture": (
        {"images/a.png": encoded(Image.fromarray(WIDE))}, {},
        lambda e: e["image"].dtype == np.float32 and np.allclose(e["image"], 100 + 128 / 257),
    ),
    "EXIF-turned picture, upright mask": (
        {"images/a.jpg": turned(LEFT_IS_WHITE), "masks/a.png": UPRIGHT_MASK}, {}, is_upright,
    ),
    "palette mask": ({"masks/a.png": encoded(with_palette())}, {}, is_noise),
    "colored mask with a table": (
        {"masks/a.png": encoded(np.array([(7, 8, 9), (255, 0, 0)], np.uint8)[CHECKS])},
        {"values": None, "colors": ((7, 8, 9), (255, 0, 0))}, is_noise,
    ),
    "names beyond ASCII": (
        {"images/Käse/猫 1.png": encoded(NOISE), "masks/Käse/猫 1.png": encoded(CHECKS)},
        {"complete": False}, lambda e: e["id"] == "Käse/猫 1" and is_noise(e),
    ),
    "mask of ignored pixels alone": ({"masks/a.png": encoded(np.full((24, 36), 255))}, {}, has_zero_loss),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_what_is_odd_but_right_is_read(tmp_path: pathlib.Path, kind: str) -> None:
    files, options, is_right = READ[kind]
    options = dict(options)
    made(tmp_path, files, complete=options.pop("complete", True))
    before = tree(tmp_path)
    assert is_right(opened(tmp_path, **options).source[0])
    assert tree(tmp_path) == before


def test_a_turn_that_was_carried_out_is_told(tmp_path: pathlib.Path) -> None:
    files = {"images/b.png": encoded(NOISE), "masks/b.png": encoded(CHECKS), "masks/a.png": UPRIGHT_MASK}
    files["images/a.jpg"] = turned(LEFT_IS_WHITE)
    for name, orientation in (("c", 3), ("d", 1), ("e", 99)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files |= {f"images/{name}.png": encoded(NOISE, exif=exif), f"masks/{name}.png": encoded(CHECKS)}
    assert scan(opened(made(tmp_path, files)), num_threads=0).orientations.tolist() == [6, 1, 3, 1, 1]


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_that_changes_while_training_is_refused(tmp_path: pathlib.Path, part: str) -> None:
    source = opened(made(tmp_path, {})).source
    smaller = reduced(source, (12, 12))
    assert is_noise(source[0]) and is_noise(source[0])
    path = tmp_path / part / "a.png"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    for reader in (source, smaller):
        with pytest.raises(DataError, match=rf"{part}/a\.png: has changed since it was first read.*put the file back"):
            reader[0]
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_noise(source[0])


def test_a_file_that_vanishes_is_named(tmp_path: pathlib.Path) -> None:
    source = opened(made(tmp_path, {})).source
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(DataError, match=r"images/a\.png: cannot be read \(No such file.*take it out"):
        source[0]
