"""Builds files like torch.save()'s from the instructions of a pickle, since the tests have no PyTorch."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def values(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def numbers(given: tuple[int, ...]) -> bytes:
    return values(*map(number, given))


def called(function: str, *arguments: bytes) -> bytes:
    return named(function) + values(*arguments) + b"R"


def table(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def listed(*parts: bytes) -> bytes:
    return b"](" + b"".join(parts) + b"e"


def storage(kind: str, key: str, length: int, *, legacy: bool = False) -> bytes:
    described = text("storage"), named(f"torch.{kind}Storage"), text(key), text("cpu"), number(length)
    return values(*described, *([b"N"] if legacy else [])) + b"Q"


def tensor(stored: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    hooks = called("collections.OrderedDict")
    view = number(offset), numbers(shape), numbers(strides)
    return called("torch._utils._rebuild_tensor_v2", stored, *view, b"\x89", hooks)


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def zipped(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_file(body: bytes, storages: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED, order: str = "") -> bytes:
    """Returns a file of PyTorch 1.6 and later; `body` builds the saved object, and `storages` are bytes by key."""
    members = {"net/data.pkl": program(body)} | {f"net/data/{key}": data for key, data in storages.items()}
    return zipped(members | ({"net/byteorder": order.encode()} if order else {}), method=method)


def legacy_file(
    body: bytes, storages: Mapping[str, tuple[int, bytes]], *, order: str = "little", protocol: int = 1001
) -> bytes:
    """Returns a file of PyTorch before 1.6; `storages` are counts of numbers, and bytes, by key."""
    system = b"}(" + text("little_endian") + (b"\x88" if order == "little" else b"\x89") + b"u"
    magic = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
    parts = [magic, number(protocol), system, body, listed(*map(text, storages))]
    raw = [count.to_bytes(8, order) + data for count, data in storages.values()]
    return b"".join(map(program, parts)) + b"".join(raw)


def state_file(tensors: Mapping[str, Any], *, wrapper: str = "") -> bytes:
    """Returns a file of tensors by name, float32 or int64 arrays; `wrapper` is the key of a dict that they are in."""
    storages, entries = {}, {}
    for key, (name, value) in enumerate(tensors.items()):
        kind = "Long" if value.dtype == np.int64 else "Float"
        strides = tuple(step // value.itemsize for step in np.ascontiguousarray(value).reshape(value.shape).strides)
        entries[name] = tensor(storage(kind, str(key), value.size), value.shape, strides)
        storages[str(key)] = value.tobytes()
    body = table(entries)
    return zip_file(table({wrapper: body}) if wrapper else body, storages)
