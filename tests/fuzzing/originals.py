"""Small valid files of every format that flaxseg reads from others, by kind."""

import functools
import io
import json
import re
import struct
import tarfile
import zipfile

import numpy as np
import safetensors.numpy
import tifffile
from PIL import Image
from torch_files import called, legacy_file, listed, number, program, storage, table, tensor, text, zip_file

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
GRAY, LABEL = NOISE[..., 0], NOISE[..., 0] % 5
WIDE = NOISE.astype(np.uint16) * 257
SIX = np.arange(6, dtype=np.float32)


def image(pixels, kind, **options):
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def npy(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def npz(compressed, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def palette(pixels):
    made = Image.fromarray(pixels, "L").convert("P") if pixels.ndim == 2 else Image.fromarray(pixels).quantize(16)
    made.putpalette(list(range(48)))
    return made


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def zipped(method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("images/a.png", b"a" * 2000)
        archive.writestr("images/b.png", NOISE.tobytes()[:500])
        link = zipfile.ZipInfo("images/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "a.png")
    return buffer.getvalue()


def tarred(mode, kind=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:
        for name in ("images/a.png", "x" * 120):
            member = tarfile.TarInfo(name)
            member.size = 700
            archive.addfile(member, io.BytesIO(NOISE.tobytes()[:700]))
        link = tarfile.TarInfo("images/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        archive.addfile(link)
    return buffer.getvalue()


def torch_body(legacy):
    stored = storage("Float", "0", 6, legacy=legacy)
    weights = table({"a": tensor(stored, (2, 3), (3, 1)), "b": tensor(stored, (), (), 5)})
    return table(
        {"state_dict": weights, "epoch": number(3), "args": listed(text("x"), called("collections.OrderedDict"))}
    )


IMAGES = {
    "png-gray": lambda: image(GRAY, "PNG"),
    "png-rgb": lambda: image(NOISE, "PNG"),
    "png-rgba": lambda: image(np.dstack((NOISE, GRAY)), "PNG"),
    "png-16": lambda: image(Image.fromarray(WIDE[..., 0]), "PNG"),
    "png-palette": lambda: image(palette(LABEL), "PNG", transparency=0),
    "png-1bit": lambda: image(Image.fromarray(GRAY > 99), "PNG"),
    "png-exif": lambda: image(NOISE, "PNG", exif=rotated()),
    "jpeg": lambda: image(NOISE, "JPEG"),
    "jpeg-exif": lambda: image(NOISE, "JPEG", exif=rotated()),
    "jpeg-progressive": lambda: image(NOISE, "JPEG", progressive=True),
    "jpeg-cmyk": lambda: image(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "tiff": lambda: tiff(NOISE, metadata=None),
    "tiff-deflate": lambda: tiff(NOISE, compression="zlib", tile=(16, 16), metadata=None),
    "tiff-planes": lambda: tiff(
        NOISE.transpose(2, 0, 1), planarconfig="separate", photometric="rgb", compression="zlib", metadata=None
    ),
    "tiff-palette": lambda: tiff(
        LABEL, photometric="palette", colormap=np.full((3, 256), 257, np.uint16), metadata=None
    ),
    "tiff-float": lambda: tiff(NOISE.astype(np.float32), photometric="rgb", metadata=None),
    "tiff-pages": lambda: tiff(NOISE.transpose(2, 0, 1), photometric="minisblack", metadata={"axes": "CYX"}),
    "tiff-big": lambda: tiff(WIDE, bigtiff=True, metadata=None),
    "tiff-lzw": lambda: image(NOISE, "TIFF", compression="tiff_lzw"),
    "npy": lambda: npy(NOISE),
    "npy-float": lambda: npy(np.asfortranarray(NOISE.astype(">f4")), (2, 0)),
    "gif": lambda: image(palette(LABEL), "GIF", save_all=True, append_images=[palette(LABEL[::-1])]),
    "bmp": lambda: image(NOISE, "BMP"),
    "bmp-palette": lambda: image(palette(LABEL), "BMP"),
    "webp": lambda: image(NOISE, "WEBP"),
    "webp-lossless": lambda: image(np.dstack((NOISE, GRAY)), "WEBP", lossless=True, exif=rotated()),
}  # fmt: skip
WEIGHTS = {
    "safetensors": lambda: safetensors.numpy.save({"a": SIX.reshape(2, 3), "b": SIX.astype(np.float16)}),
    "npz": lambda: npz(False, a=SIX, b=GRAY),
    "npz-deflated": lambda: npz(True, a=SIX, b=GRAY),
    "torch": lambda: zip_file(torch_body(False), {"0": SIX.tobytes()}, order="little"),
    "torch-deflated": lambda: zip_file(torch_body(False), {"0": SIX.tobytes()}, method=zipfile.ZIP_DEFLATED),
    "torch-legacy": lambda: legacy_file(torch_body(True), {"0": (6, SIX.tobytes())}),
    "pickle": lambda: program(torch_body(True)),
}
ARCHIVES = {
    "zip": lambda: zipped(zipfile.ZIP_STORED),
    "zip-deflated": lambda: zipped(zipfile.ZIP_DEFLATED),
    "zip-bz2": lambda: zipped(zipfile.ZIP_BZIP2),
    "zip-lzma": lambda: zipped(zipfile.ZIP_LZMA),
    "tar": lambda: tarred("w"),
    "tar-gnu": lambda: tarred("w", tarfile.GNU_FORMAT),
    "tar-gz": lambda: tarred("w:gz"),
    "tar-bz2": lambda: tarred("w:bz2"),
    "tar-xz": lambda: tarred("w:xz"),
}


def model():
    from saved_run import DESCRIPTION

    return DESCRIPTION.to_json().encode()


def config():
    from flaxseg.config.files import load_config

    return load_config("configs/shapes.py:tiny").to_json(indent=2).encode()


def manifest():
    import pathlib
    import tempfile

    from flaxseg.models.pretrained.manifest import FILE, write_manifest

    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "array").write_bytes(b"numbers")
        write_manifest(pathlib.Path(folder), step=7, scores={"miou": 0.5})
        return (pathlib.Path(folder) / FILE).read_bytes()


def data():
    split = {"classes": ["a", "b"], "examples": 4, "digest": "0" * 32}
    return json.dumps({"train": split, "eval": split}, indent=2).encode()


def lock():
    owner = {"host": "a", "system": "b", "pid": 4_000_000, "started": 1.5, "since": "2020-01-01", "token": "0" * 32}
    return json.dumps(owner).encode()


def rows():
    return b"".join(
        json.dumps({"step": step, "wall_time": 1.5, "train/loss": 0.5}).encode() + b"\n" for step in range(9)
    )


def samples():
    arrays = {"id": np.array(["one", "two"])}
    for index in range(2):
        arrays |= {f"image_{index}": NOISE, f"label_{index}": LABEL}
    return npz(True, **arrays)


def events():
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=1, file_version="brain.Event:2").SerializeToString())
    for step in range(5):
        event = Event(wall_time=1, step=step)
        event.summary.value.add(tag="train/loss", simple_value=0.5)
        writer.write(event.SerializeToString())
    return buffer.getvalue()


RECORDS = {
    "model.json": model, "config.json": config, "data.json": data, "manifest.json": manifest, ".lock": lock,
    "metrics.jsonl": rows, "samples.npz": samples, "events": events,
}  # fmt: skip
KINDS = {**IMAGES, **WEIGHTS, **ARCHIVES, **RECORDS}


@functools.cache
def original(kind: str) -> bytes:
    """Returns a valid file of a kind, always the same one."""
    return without_time(KINDS[kind]())


def without_time(data: bytes) -> bytes:
    """Returns a zip or gzip file without the time at which it was written."""
    changed = bytearray(data)
    if data[:2] == b"\x1f\x8b":
        changed[4:8] = bytes(4)
    for signature, place in ((b"PK\x03\x04", 10), (b"PK\x01\x02", 12)):
        for match in re.finditer(signature, data):
            changed[match.start() + place : match.start() + place + 4] = b"\0\0\x21\0"
    return bytes(changed)


def fields(data: bytes, kind: str) -> list[tuple[int, str]]:
    """Returns the place and the struct format of the fields of sizes, counts and offsets that a format has."""
    found: list[tuple[int, str]] = []
    if kind.startswith("tiff") and len(data) > 16:
        order = "<" if data[:2] == b"II" else ">"
        is_big = data[2:3] in (b"+",)
        place = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)[0]
        if place + 8 < len(data):
            count = struct.unpack_from(order + ("Q" if is_big else "H"), data, place)[0]
            step, first = (20, 8) if is_big else (12, 2)
            for entry in range(min(count, 40)):
                start = place + first + step * entry
                found += [(start, order + "H"), (start + 2, order + "H")]
                found += [
                    (start + 4, order + ("Q" if is_big else "I")),
                    (start + (12 if is_big else 8), order + ("Q" if is_big else "I")),
                ]
    if kind.startswith(("zip", "npz", "torch", "samples")):
        for signature, inner in (
            (b"PK\x01\x02", "HHHHxxxxIIIHHHHHII"),
            (b"PK\x03\x04", "HHHxxxxIIIHH"),
            (b"PK\x05\x06", "HHHHIIH"),
        ):
            place = data.find(signature)
            while place >= 0:
                offset = place + 4
                for letter in inner:
                    if letter != "x":
                        found.append((offset, "<" + letter))
                    offset += 1 if letter == "x" else struct.calcsize("<" + letter)
                place = data.find(signature, place + 4)
    if kind.startswith("jpeg"):
        for marker in (b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xe1", b"\xff\xc4", b"\xff\xdb"):
            place = data.find(marker)
            if place >= 0:
                found += [(place + 2, ">H"), (place + 4, ">B"), (place + 5, ">H"), (place + 7, ">H"), (place + 9, ">B")]
    if kind.startswith("bmp"):
        found += [
            (2, "<I"),
            (10, "<I"),
            (14, "<I"),
            (18, "<i"),
            (22, "<i"),
            (28, "<H"),
            (30, "<I"),
            (34, "<I"),
            (46, "<I"),
        ]
    if kind.startswith("gif"):
        found += [(6, "<H"), (8, "<H"), (10, "<B")]
        place = data.find(b"\x2c")
        found += [(place + offset, "<H") for offset in (1, 3, 5, 7)] if place > 0 else []
    if kind.startswith("webp"):
        found += [(4, "<I"), (16, "<I"), (20, "<I"), (24, "<I"), (26, "<H"), (28, "<H")]
    if kind == "safetensors":
        found += [(0, "<Q")]
    if kind.startswith("npy"):
        found += [(6, "<B"), (8, "<H"), (8, "<I")]
    if kind == "events":
        found += [(0, "<Q"), (8, "<I")]
    return [(place, form) for place, form in found if place + struct.calcsize(form) <= len(data)]
