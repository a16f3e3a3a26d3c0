"""TIFF and NPY files: the meaning of the axes, dtypes and compressions, and files that are not a single image."""

import importlib.util
import io

import numpy as np
import pytest
import tifffile
from encoded_files import npy, tiff
from PIL import Image

from flaxseg.data.decode.images import decode_image, decode_label, read_palette
from flaxseg.data.decode.tiff_npy import apply_orientation, read_array
from flaxseg.errors import DataError

LAST = np.random.default_rng(0).integers(0, 200, (6, 9, 5), dtype=np.uint8)
FIRST = np.ascontiguousarray(LAST.transpose(2, 0, 1))


def pixels(data: bytes) -> np.ndarray:
    return read_array(data, name="x", max_megapixels=1).pixels


def retagged(data: bytes, tag: str, value: int) -> bytes:
    """Returns a TIFF with another 16-bit value in its header."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags[tag].valueoffset
    return data[:place] + value.to_bytes(2, "little") + data[place + 2 :]


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (LAST, {"photometric": "minisblack", "planarconfig": "contig"}),
        (FIRST, {"photometric": "minisblack", "planarconfig": "separate"}),
        (LAST, {}),
        (FIRST, {}),
        (FIRST, {"imagej": True, "metadata": {"axes": "CYX"}}),
        (FIRST, {"ome": True, "metadata": {"axes": "CYX"}}),
        (FIRST[None], {"ome": True, "metadata": {"axes": "TCYX"}}),
        (LAST, {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib", "tile": (16, 16)}),
        (FIRST, {"bigtiff": True, "byteorder": ">"}),
    ],
)
def test_channels_come_last_whatever_their_stored_axis(stored: np.ndarray, options: dict) -> None:
    np.testing.assert_array_equal(pixels(tiff(stored, **options)), LAST)


def test_a_short_axis_of_rows_is_not_mistaken_for_channels() -> None:
    stored = tiff(LAST[:2], photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(pixels(stored), LAST[:2])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">u2", ">f4"])
def test_dtypes_are_kept(dtype: str) -> None:
    values = (np.arange(54).reshape(6, 9) - (20 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    for data in (npy(values), tiff(values)):
        stored = pixels(data)
        assert stored.dtype == np.dtype(dtype).newbyteorder("=") and stored.flags.writeable
        np.testing.assert_array_equal(stored[..., 0], values)


@pytest.mark.parametrize(
    "stored", [LAST, FIRST, np.asfortranarray(LAST), np.asfortranarray(FIRST), LAST.transpose(1, 0, 2).swapaxes(0, 1)]
)
def test_npy_channels_are_the_shortest_axis_at_either_end(stored: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels(npy(stored)), LAST)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (tiff(FIRST, imagej=True, metadata={"axes": "ZYX"}), r"axes ZYX of sizes \[5, 6, 9\].*stack of 5 slices"),
        (tiff(FIRST, imagej=True, metadata={"axes": "TYX"}), "a stack of 5 time points"),
        (tiff(np.stack([FIRST, FIRST]), ome=True, metadata={"axes": "TCYX"}), r"TCYX of .* is not a single image"),
        (npy(LAST[None]), r"has the shape \[1, 6, 9, 5\], but an image is \[H, W\]"),
        (npy(LAST[0, 0]), r"has the shape \[5\]"),
        (npy(LAST[:0]), r"has the shape \[0, 9, 5\]"),
    ],
)
def test_files_that_are_not_a_single_image_are_rejected(data: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=f"^x: .*{problem}"):
        pixels(data)


def test_a_header_that_declares_too_much_allocates_no_memory() -> None:
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (900, 900, 10**9)}
    np.lib.format.write_array_header_1_0(header, claim)
    with pytest.raises(DataError, match="x: cannot be decoded .*damaged"):
        pixels(header.getvalue() + b"12345678")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_lzw_is_read_without_another_package(mode: str) -> None:
    values = np.arange(60, dtype=np.uint16 if mode == "I;16" else np.uint8).reshape(6, 10)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="tiff_lzw")
    np.testing.assert_array_equal(pixels(buffer.getvalue())[..., 0], values)


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs reads every compression")
def test_other_compressions_name_the_required_extra() -> None:
    data = retagged(tiff(LAST, photometric="minisblack", planarconfig="contig", metadata=None), "Compression", 5)
    with pytest.raises(
        DataError, match=r"x: is a TIFF of uint8 with the compression LZW.*pip install 'flaxseg\[tiff\]'"
    ):
        pixels(data)


def test_a_palette_gives_colors_for_images_and_numbers_for_masks() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    data = buffer.getvalue()
    np.testing.assert_array_equal(decode_image(data, name="x"), [[[10, 20, 30], [200, 100, 50], [7, 8, 9]]])
    np.testing.assert_array_equal(decode_label(data, name="x"), [[0, 1, 2]])
    palette = read_palette(data, name="x")
    assert palette is not None
    np.testing.assert_array_equal(palette[1], [200, 100, 50])


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float64, np.uint16])
def test_integer_masks_of_any_dtype_are_read(dtype: type) -> None:
    values = np.eye(3, 4, dtype=dtype)
    for array in (values, values[None], values[..., None]):
        label = decode_label(npy(array), name="m")
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, np.eye(3, 4))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[0.5, 1]]), "has mask values from 0.5 to 1.0"),
        (np.array([[-1, 1]]), "has mask values from -1 to 1, but labels are integers of one byte"),
        (np.array([[np.nan, 1]]), "contains float64 values that are not finite numbers"),
        (np.zeros((4, 4, 2)), "has 2 channels of float64"),
    ],
)
def test_other_masks_are_rejected(values: np.ndarray, problem: str) -> None:
    with pytest.raises(DataError, match=f"^m: {problem}"):
        decode_label(npy(values), name="m")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_match_pillow(orientation: int) -> None:
    image = Image.fromarray(LAST[..., :3])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(
        apply_orientation(LAST[..., :3], orientation), decode_image(buffer.getvalue(), name="x")
    )
