"""Files that were made, or damaged, so that decoders take minutes, gigabytes, or raise other errors."""

import io
import struct
import time

import numpy as np
import pytest
import tifffile
from encoded_files import tiff
from PIL import Image

from flaxseg.data.decode.blocks import open_blocks, stored_size
from flaxseg.data.decode.images import decode_image, exif_orientation, read_palette
from flaxseg.data.decode.tiff_npy import palette_colors
from flaxseg.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def pages(count, *, tags=1, loop=False):
    """Returns a TIFF of many pages without pixels."""
    size = 2 + 12 * tags + 4
    parts = [b"II*\0" + struct.pack("<I", 8)]
    for page in range(count):
        following = 8 + size * (page + 1) if page + 1 < count else 8 * loop
        parts.append(struct.pack("<H", tags) + struct.pack("<HHII", 256, 3, 1, 9) * tags + struct.pack("<I", following))
    return b"".join(parts)


@pytest.mark.parametrize(("data", "problem"), [
    (pages(4097), "more than 4,096 pages or 50,000 tags"),
    (pages(1001, tags=50), "more than 4,096 pages or 50,000 tags"),
    (pages(3, loop=True), "whose pages form a loop"),
    (pages(1)[:9], "cannot be decoded"),
])  # fmt: skip
def test_a_tiff_of_implausibly_many_pages_is_refused_at_once(tmp_path, data, problem):
    (tmp_path / "a.tif").write_bytes(data)
    start = time.process_time()
    for read in (lambda: decode_image(data, name="a.tif"), lambda: open_blocks(str(tmp_path / "a.tif"))):
        with pytest.raises(DataError, match=f"a.tif: .*{problem}.*"):
            read()
    assert stored_size(str(tmp_path / "a.tif")) is None
    assert time.process_time() - start < 2


def test_the_channels_of_a_compressed_tiff_are_limited_too():
    many = tiff(np.zeros((64, 64, 5000), np.uint8), compression="zlib", photometric="minisblack", planarconfig="contig",
                metadata={"axes": "YXS"})  # fmt: skip
    assert len(many) < 500_000
    with pytest.raises(DataError, match=r"a: unpacks to 20,480,000 bytes .* raise max_megapixels"):
        decode_image(many, name="a", max_megapixels=0.1)
    assert decode_image(many, name="a", max_megapixels=2).shape == (64, 64, 5000)


def test_a_damaged_palette_file_is_a_data_error_wherever_it_is_read():
    buffer = io.BytesIO()
    made = Image.fromarray(NOISE).quantize(16)
    made.save(buffer, "PNG")
    damaged = bytearray(buffer.getvalue())
    place = damaged.index(b"IDAT") + 10
    damaged[place : place + 40] = b"\xff" * 40
    for read in (read_palette, exif_orientation):
        with pytest.raises(
            DataError, match=r"^a\.png: cannot be decoded \(.*\), so it is truncated or damaged; restore"
        ):
            read(bytes(damaged), name="a.png")


def test_an_image_without_pixels_cannot_be_read_in_blocks(tmp_path):
    data = tiff(NOISE, metadata=None)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["ImageLength"].valueoffset
    (tmp_path / "a.tif").write_bytes(data[:place] + b"\0\0" + data[place + 2 :])
    with pytest.raises(DataError, match=r"a\.tif: has the shape \[0, 36, 3\], so it contains no pixels; restore it"):
        open_blocks(str(tmp_path / "a.tif"))


def test_the_reason_for_damage_is_one_short_line():
    header = b"9" * 9000
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    with pytest.raises(DataError) as caught:
        decode_image(data, name="a.npy")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_palette_values_are_indices_of_any_size_and_exist():
    colors = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    for dtype in (np.bool_, np.uint8, np.uint16):
        found = palette_colors(np.array([[[0], [1]], [[1], [0]]], dtype), colors, name="a")
        assert found.tolist() == [[[1, 2, 3], [4, 5, 6]], [[4, 5, 6], [1, 2, 3]]]
    for values in (np.array([[[2]]], np.uint8), np.array([[[0.0]]])):
        with pytest.raises(DataError, match="^a: cannot be decoded"):
            palette_colors(values, colors, name="a")
