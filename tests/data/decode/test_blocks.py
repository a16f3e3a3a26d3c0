"""Blocks of TIFF and NPY files are the same parts of the whole image, and few of them are kept in memory."""

import contextlib

import numpy as np
import pytest
import tifffile

from flaxseg.data.decode import blocks
from flaxseg.data.decode.blocks import open_blocks, row_blocks, stored_size
from flaxseg.data.decode.tiff_npy import read_array
from flaxseg.errors import DataError

SHAPE = (70, 90, 3)
TILES = {"tile": (16, 32)}
FORMS = {
    "plain": {},
    "big_endian": {"byteorder": ">", "dtype": np.uint16},
    "tiles": TILES,
    "deflated_tiles": {**TILES, "compression": "zlib"},
    "deflated_strips": {"rowsperstrip": 9, "compression": "zlib"},
    "deflated_strip": {"rowsperstrip": 70, "compression": "zlib", "dtype": np.float32},
    "big": {**TILES, "compression": "zlib", "bigtiff": True, "byteorder": ">", "dtype": np.uint16},
    "planes": {"planarconfig": "separate"},
    "deflated_planes": {**TILES, "planarconfig": "separate", "compression": "zlib"},
    "pages": {"photometric": "minisblack", "metadata": {"axes": "CYX"}},
    "bands": {**TILES, "compression": "zlib", "photometric": "minisblack", "planarconfig": "contig"},
}


def stored(path, form):
    """Writes an image and returns its pixels."""
    options = {"photometric": "rgb", **FORMS[form]}
    dtype = options.pop("dtype", np.uint8)
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(dtype)
    separate = form in ("planes", "deflated_planes", "pages")
    tifffile.imwrite(path, pixels.transpose(2, 0, 1) if separate else pixels, **options)
    return pixels


def check(path, pixels):
    with contextlib.closing(open_blocks(str(path))) as found:
        assert found.shape == pixels.shape
        for rows, columns in (((0, 70), (0, 90)), ((3, 41), (30, 65)), ((69, 70), (89, 90)), ((60, 200), (80, 200))):
            key = slice(*rows), slice(*columns)
            block = found[key]
            assert block.dtype == pixels.dtype
            np.testing.assert_array_equal(block, pixels[key])
        np.testing.assert_array_equal(np.concatenate(list(row_blocks(found, num_bytes=5000))), pixels)
    assert stored_size(str(path)) == pixels.shape[:2]


@pytest.mark.parametrize("form", FORMS)
def test_blocks_of_a_tiff_are_parts_of_it(tmp_path, form, monkeypatch):
    pixels = stored(tmp_path / "a.tif", form)
    np.testing.assert_array_equal(
        read_array((tmp_path / "a.tif").read_bytes(), name="a", max_megapixels=1).pixels, pixels
    )
    check(tmp_path / "a.tif", pixels)
    # Also if decoded parts are soon dropped and decoded again.
    monkeypatch.setattr(blocks, "_CACHE_BYTES", max(16 * 32 * 3 * 2, 70 * 90 * 3 * 4))
    check(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("form", ["hwc", "hw", "chw", "fortran", "big_endian"])
def test_blocks_of_an_npy_file_are_parts_of_it(tmp_path, form):
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint16)
    given = {
        "hwc": pixels,
        "hw": pixels[..., 0],
        "chw": pixels.transpose(2, 0, 1),
        "fortran": np.asfortranarray(pixels),
        "big_endian": pixels.astype(">u2"),
    }[form]
    np.save(tmp_path / "a.npy", given)
    check(tmp_path / "a.npy", pixels[..., :1] if form == "hw" else pixels)


def test_a_palette_is_returned(tmp_path):
    colors = np.arange(768).reshape(3, 256).astype(np.uint16) * np.uint16(85)
    label = np.arange(48, dtype=np.uint8).reshape(6, 8)
    tifffile.imwrite(tmp_path / "a.tif", label, photometric="palette", colormap=colors)
    with contextlib.closing(open_blocks(str(tmp_path / "a.tif"))) as found:
        np.testing.assert_array_equal(found[0:6, 0:8][..., 0], label)
        np.testing.assert_array_equal(found.palette, colors.T >> 8)


def test_parts_that_are_not_stored_have_no_data(tmp_path):
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[:4, :4] = pixels[20:24, 40:44] = 9
    tiles = [pixels[y : y + 16, x : x + 32] for y in range(0, 70, 16) for x in range(0, 90, 32)]
    data = (tile if tile.any() else None for tile in tiles)
    tifffile.imwrite(
        tmp_path / "a.tif", data, shape=SHAPE, dtype=np.uint8, photometric="rgb", compression="zlib", **TILES
    )
    check(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extratags": [(274, 3, 1, 6, True)]}, "cannot be read in blocks, because it has the orientation 6"),
        ({"compression": "zlib", "rowsperstrip": 70}, "strips of 70 rows, .* save it in tiles"),
        (
            {"compression": "zlib", "photometric": "minisblack", "metadata": {"axes": "CYX"}, "transpose": True},
            "has its channels in several pages",
        ),
        ({"photometric": "minisblack", "metadata": {"axes": "ZYX"}, "transpose": True}, "a stack of 3 slices"),
    ],
)
def test_files_that_have_no_blocks_are_refused(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(blocks, "_CACHE_BYTES", 1000)
    pixels = np.zeros(SHAPE, np.uint8)
    transpose = options.pop("transpose", False)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels.transpose(2, 0, 1) if transpose else pixels, **{"photometric": "rgb", **options}
    )
    with pytest.raises(DataError, match=message):
        open_blocks(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "c.npy"])
def test_a_truncated_file_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "c.npy":
        np.save(path, np.zeros(SHAPE, np.uint8))
    else:
        compression = "zlib" if name == "b.tif" else None
        noise = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
        tifffile.imwrite(path, noise, photometric="rgb", compression=compression, **TILES)
    path.write_bytes(path.read_bytes()[:-9000])
    with (
        pytest.raises(DataError, match=f"{name}: cannot be decoded .* truncated or damaged"),
        contextlib.closing(open_blocks(str(path))) as found,
    ):
        list(row_blocks(found))


def test_only_headers_of_tiff_and_npy_files_are_read(tmp_path):
    for name in ("a.tif", "a.npy", "a.png"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        assert stored_size(str(tmp_path / name)) is None
