"""Files of every format are decoded to the right arrays; unreadable files are named."""

import io
import itertools
import pathlib
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from encoded_files import npy
from PIL import Image

from flaxseg.data.decode.images import decode_image, decode_label, read_palette
from flaxseg.errors import DataError


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_return_the_pixels_that_were_saved(rgb: np.ndarray, file_format: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(rgb), file_format), name="x"), rgb)


def test_webp_and_gif_are_read(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    np.testing.assert_array_equal(decode_image(encoded(image, "WEBP", lossless=True), name="x"), rgb)
    few = np.zeros((4, 5, 3), np.uint8)
    few[:2] = (250, 10, 60)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(few), "GIF"), name="x"), few)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_agrees_with_pillow(mode: str, progressive: bool) -> None:
    ramp = np.linspace(0, 255, 40 * 56 * 3).reshape(40, 56, 3).astype(np.uint8)
    data = encoded(Image.fromarray(ramp).convert(mode), "JPEG", quality=95, progressive=progressive)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(decode_image(data, name="x") - expected).max() <= 1


def test_the_end_marker_of_a_thumbnail_does_not_hide_a_truncated_jpeg() -> None:
    whole = encoded(Image.new("RGB", (64, 64), (90, 10, 200)), "JPEG", comment=b"\xff\xd9 as in a thumbnail")
    assert decode_image(whole, name="x").shape == (64, 64, 3)
    with pytest.raises(DataError, match=r"cat\.jpg: is a JPEG, truncated after \d+ bytes"):
        decode_image(whole[:-20], name="cat.jpg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_images_of_every_mode_become_rgb_without_blending(mode: str) -> None:
    values = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    image = Image.fromarray(values).convert(mode)
    if mode == "LA":
        image.putalpha(7)
    np.testing.assert_array_equal(decode_image(encoded(image), name="x"), np.repeat(values[..., None], 3, 2))


def test_a_palette_with_transparency_keeps_its_colors() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    decoded = decode_image(encoded(image, transparency=b"\x00\x80"), name="x")
    np.testing.assert_array_equal(decoded[0], [[10, 20, 30], [200, 100, 50]])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept_as_float32(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    values[0, 0], values[0, 1] = 65535, 257
    data = cv2.imencode(".png", values[..., [2, 1, 0, 3][:channels]] if channels > 1 else values)[1].tobytes()
    decoded = decode_image(data, name="x")
    assert decoded.dtype == np.float32 and decoded.shape == (5, 7, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to(values[..., :3], (5, 7, 3)) / 257, atol=1e-4)


def test_a_sixteen_bit_png_is_rotated_and_its_damage_reported() -> None:
    values = np.zeros((4, 6, 3), np.uint16)
    values[:, 0] = 65535
    data = cv2.imencode(".png", values)[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    rotated = decode_image(data[:33] + chunk + data[33:], name="x")
    assert rotated.shape == (6, 4, 3) and rotated[0].min() == 255 and rotated[1:].max() == 0
    with pytest.raises(DataError, match="x: cannot be decoded"):
        decode_image(data[:-20], name="x")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_the_exif_orientation_is_applied(file_format: str) -> None:
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(encoded(Image.fromarray(stored), file_format, exif=exif), name="x")
    assert upright.shape == (48, 32, 3)
    assert upright[:8].min() > 240 and upright[24:].max() < 15


@pytest.mark.parametrize("mode", ["L", "P"])
def test_label_values_are_returned_as_stored(mode: str) -> None:
    values = np.array([[0, 1, 2], [21, 254, 255]], np.uint8)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([(7 * i) % 256 for i in range(768)])
    np.testing.assert_array_equal(decode_label(encoded(image), name="x"), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_not_scaled(bits: int) -> None:
    values = np.arange(2**bits, dtype=np.uint8)[None]
    palette = Image.fromarray(values)
    palette.putpalette([40 * i % 256 for i in range(3 * 2**bits)])
    np.testing.assert_array_equal(decode_label(encoded(palette, bits=bits), name="x"), values)
    np.testing.assert_array_equal(decode_label(gray_png(values, bits), name="x"), values)


def gray_png(values: np.ndarray, bits: int) -> bytes:
    """Returns a gray PNG of 1, 2 or 4 bits, which Pillow cannot write."""
    digits = "".join(f"{value:0{bits}b}" for value in values[0]).ljust(8 * -(-len(values[0]) * bits // 8), "0")
    row = bytes([0]) + int(digits, 2).to_bytes(len(digits) // 8, "big")
    header = struct.pack(">IIBBBBB", values.shape[1], 1, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_labels_with_equal_channels_or_16_bits_are_gray(mode: str) -> None:
    values = np.array([[0, 3, 255]], np.uint8)
    image = Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else Image.fromarray(values).convert(mode)
    np.testing.assert_array_equal(decode_label(encoded(image), name="x"), values)


@pytest.mark.parametrize("decode", [decode_image, decode_label])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: b"<html>not found</html>", "is not an image of a known format"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:20], "truncated|known format"),
    ],
)
@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "BMP"])
def test_damage_names_the_file_and_the_remedy(
    decode: Callable, damage: Callable, problem: str, file_format: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    data = damage(encoded(Image.fromarray(noise), file_format))
    with pytest.raises(DataError, match=rf"dir/a\.png: .*({problem}|cannot be decoded|without pixel).*restore it"):
        decode(data, name="dir/a.png")


@pytest.mark.parametrize(
    ("decode", "file_format"),
    [(decode_image, "JPEG"), *itertools.product([decode_image, decode_label], ["PNG", "TIFF", "NPY"])],
)
def test_too_many_pixels_are_rejected_before_decoding(decode: Callable, file_format: str) -> None:
    data = (
        npy(np.zeros((100, 200), np.uint8))
        if file_format == "NPY"
        else encoded(Image.new("L", (200, 100)), file_format)
    )
    with pytest.raises(
        DataError, match=r"big: is 200x100, 0\.0 megapixels, but at most 0\.0199 are read; make it smaller"
    ):
        decode(data, name="big", max_megapixels=0.0199)
    assert decode(data, name="big", max_megapixels=0.02).shape[:2] == (100, 200)


def test_a_limit_above_that_of_pillow_allows_larger_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 19_999)
    assert decode_image(encoded(Image.new("L", (200, 100))), name="x", max_megapixels=0.02).shape == (100, 200, 3)


def test_a_decompression_bomb_is_a_data_error() -> None:
    # A header that declares 50,000 x 50,000 pixels.
    data = bytearray(gray_png(np.zeros((1, 8), np.uint8), 1))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(DataError, match="bomb.png: .*megapixels"):
        decode_image(bytes(data), name="bomb.png")


def test_the_palette_is_read_and_gray_has_none() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    assert read_palette(encoded(image), name="x") is None
    image.putpalette([1, 2, 3, 4, 5, 6])
    palette = read_palette(encoded(image), name="x")
    assert palette is not None
    np.testing.assert_array_equal(palette[:2], [[1, 2, 3], [4, 5, 6]])


def test_real_files_with_a_wrong_extension_are_read(shared_data: pathlib.Path) -> None:
    for stem, shape in (("Abyssinian_34", (202, 250)), ("Abyssinian_5", (150, 200))):
        data, mask = ((shared_data / "oddities" / f"{stem}.{end}").read_bytes() for end in ("jpg", "png"))
        assert decode_image(data, name=stem).shape == (*shape, 3)
        assert set(np.unique(decode_label(mask, name=stem))) <= {1, 2, 3}


def png_chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """Returns a chunk of a PNG, which may declare another length than it has."""
    declared = len(content) if length is None else length
    return struct.pack(">I", declared) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_png_takes_no_memory_for_bytes_that_it_only_declares(tmp_path: pathlib.Path) -> None:
    for depth, kind in itertools.product((8, 16), (b"IDAT", b"tEXt", b"zTXt", b"iCCP", b"eXIf")):
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, 2, 0, 0, 0))
        pixels = zlib.compress(bytes((8 * 3 * depth // 8 + 1) * 8))
        rest = png_chunk(b"IEND", b"") if kind == b"IDAT" else png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
        data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(kind, pixels, 0x70000000) + rest
        (tmp_path / f"{kind.decode()}{depth}.png").write_bytes(data)
    program = """if True:
        import pathlib, resource, sys
        from flaxseg.data.decode.images import decode_image, decode_label
        from flaxseg.errors import DataError
        def peak_mebibytes():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before, files = peak_mebibytes(), list(pathlib.Path(sys.argv[1]).iterdir())
        for path in files:
            for decode in (decode_image, decode_label):
                try:
                    decode(path.read_bytes(), name=path.name)
                except DataError as error:
                    assert path.name in str(error)
        print(len(files), peak_mebibytes() - before)
    """
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, text=True)
    count, grown = map(int, done.stdout.split())
    assert count == 10 and grown < 64
