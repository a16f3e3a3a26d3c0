"""Random damage to files, some of it aware of their format; every case follows from its seed."""

import copy
import functools
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from typing import Any

from fuzzing.originals import fields, original, without_time

_EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63 - 1,
    2**64 - 1,
)
_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 255, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, float("inf"), float("nan"), 0.5, True, None,
)  # fmt: skip
_TEXTS = ("", "\0", "\ud800", "x" * 100_000, "../../etc/passwd", "os:system", "no.such:thing", "é\n", "9" * 5000)


def mutated(kind: str, seed: int) -> bytes:
    """Returns the damaged file of a case."""
    draw, data = random.Random(f"{kind}/{seed}"), original(kind)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(_mutations(kind))(draw, data, kind)
    return data


def _mutations(kind: str) -> list[Any]:
    generic = [_flip, _truncate, _delete, _insert, _repeat, _fill, _set_number]
    aware = [_set_field] * 4
    if kind.startswith("png"):
        aware = [_png_header, _png_length, _png_chunk, _png_bomb]
    elif kind.endswith(".json") or kind == ".lock":
        aware = [_json_value] * 4 + [_deep_json]
    elif kind == "metrics.jsonl":
        aware = [_json_line] * 3
    elif kind.startswith("npy"):
        aware = [_set_field, _npy_header, _npy_header, _npy_header]
    elif kind == "safetensors":
        aware = [_set_field, _safetensors_header, _safetensors_header, _safetensors_header]
    elif kind.startswith(("npz", "torch", "samples")) and kind != "torch-legacy":
        aware = [_set_field, _set_field, _zip_member, _zip_member, _zip_member]
    elif kind in ("pickle", "torch-legacy"):
        aware = [_opcodes] * 4
    elif kind.startswith("tar"):
        aware = [_tar_member] * 4
    return generic + aware


def _place(draw: random.Random, data: bytes) -> int:
    # Headers are at both ends.
    near = min(len(data), 200)
    return draw.choice((draw.randrange(len(data) + 1), draw.randrange(near + 1), len(data) - draw.randrange(near + 1)))


def _flip(draw: random.Random, data: bytes, kind: str) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[min(_place(draw, data), len(changed) - 1)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _truncate(draw: random.Random, data: bytes, kind: str) -> bytes:
    return data[: _place(draw, data)]


def _delete(draw: random.Random, data: bytes, kind: str) -> bytes:
    place = _place(draw, data)
    return data[:place] + data[place + draw.choice((1, 2, 4, 16, 100, 1000)) :]


def _insert(draw: random.Random, data: bytes, kind: str) -> bytes:
    place, count = _place(draw, data), draw.choice((1, 2, 4, 16, 1000, 50_000))
    return data[:place] + (draw.randbytes(count) if draw.random() < 0.5 else bytes(count)) + data[place:]


def _repeat(draw: random.Random, data: bytes, kind: str) -> bytes:
    place = _place(draw, data)
    part = data[place : place + draw.choice((1, 2, 8, 64, 512))]
    times = min(draw.choice((2, 3, 10, 1000, 20_000)), 2_000_000 // max(len(part), 1))
    return data[:place] + part * times + data[place:]


def _fill(draw: random.Random, data: bytes, kind: str) -> bytes:
    place, count = _place(draw, data), draw.choice((1, 4, 16, 200))
    return (
        data[:place]
        + draw.choice((b"\0", b"\xff", b"(", b"[")) * len(data[place : place + count])
        + data[place + count :]
    )


def _set_number(draw: random.Random, data: bytes, kind: str) -> bytes:
    form = draw.choice((">", "<")) + draw.choice("BHIQ")
    place = min(_place(draw, data), max(len(data) - struct.calcsize(form), 0))
    return _packed(draw, data, place, form)


def _set_field(draw: random.Random, data: bytes, kind: str) -> bytes:
    found = fields(data, kind)
    return _packed(draw, data, *draw.choice(found)) if found else _set_number(draw, data, kind)


def _packed(draw: random.Random, data: bytes, place: int, form: str) -> bytes:
    size = struct.calcsize(form)
    value = draw.choice((*_EXTREMES, draw.randrange(2**64), draw.randrange(2**16))) % 2 ** (8 * size)
    order = "little" if form[0] == "<" else "big"
    return data[:place] + value.to_bytes(size, order) + data[place + size :]  # type: ignore[arg-type]


def _chunks(data: bytes) -> list[tuple[int, bytes, bytes]]:
    found, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found.append((place, data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def _png_header(draw: random.Random, data: bytes, kind: str) -> bytes:
    header = bytearray(data[16:29].ljust(13, b"\0"))
    for _ in range(draw.choice((1, 2))):
        offset, size = draw.choice(((0, 4), (4, 4), (8, 1), (9, 1), (12, 1), (0, 4), (4, 4)))
        value = draw.choice((0, 1, 2, 4, 8, 16, 999, 1000, 30_000, 2**31 - 1, draw.randrange(2**32)))
        header[offset : offset + size] = (value % 2 ** (8 * size)).to_bytes(size, "big")
    return data[:8] + _chunk(b"IHDR", bytes(header)) + data[33:]


def _png_length(draw: random.Random, data: bytes, kind: str) -> bytes:
    chunks = _chunks(data)
    place = draw.choice(chunks)[0] if chunks else 8
    return data[:place] + draw.choice(_EXTREMES[:12]).to_bytes(4, "big") + data[place + 4 :]


def _png_chunk(draw: random.Random, data: bytes, kind: str) -> bytes:
    content = draw.choice(
        (
            b"",
            draw.randbytes(20),
            b"a\0\0" + zlib.compress(bytes(20_000_000), 1),
            b"a\0\0\0\0\0" + zlib.compress(bytes(9_000_000), 1),
        )
    )
    name = draw.choice(
        (b"tRNS", b"eXIf", b"zTXt", b"iTXt", b"iCCP", b"PLTE", b"IDAT", b"acTL", b"fcTL", b"gAMA", b"IHDR", b"IEND")
    )
    return data[:33] + _chunk(name, content) + data[33:]


def _png_bomb(draw: random.Random, data: bytes, kind: str) -> bytes:
    width, height = draw.choice(((24, 36), (1000, 1000), (30_000, 33), (2**20, 2**20)))
    header = struct.pack(">II", width, height) + bytes(
        (draw.choice((1, 2, 4, 8, 16)), draw.choice((0, 2, 3, 4, 6)), 0, 0, draw.randrange(2))
    )
    return (
        data[:8]
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(draw.choice((10, 10**6, 3 * 10**7))), 1))
        + _chunk(b"IEND", b"")
    )


def _json_value(draw: random.Random, data: bytes, kind: str) -> bytes:
    packed = data.replace(b" ", b"")
    if b"[" * 100 in packed or b'{"a":' * 100 in packed:
        return _flip(draw, data, kind)
    try:
        tree = json.loads(data)
    except ValueError:
        return _flip(draw, data, kind)
    parents: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            parents.append((node, key))
            visit(node[key])

    visit(tree)
    if not parents:
        return json.dumps(draw.choice((*_NUMBERS[:6], [], {}, "x"))).encode()
    parent, key = draw.choice(parents)
    other = draw.choice(parents)
    copied = copy.deepcopy(other[0][other[1]])
    match draw.randrange(6):
        case 0:
            parent[key] = draw.choice(_NUMBERS)
        case 1:
            parent[key] = draw.choice(_TEXTS)
        case 2:
            parent[key] = draw.choice(([], {}, [[]], {"a": {}}, [1] * 50_000, {"": None}))
        case 3 if isinstance(parent, dict):
            parent[draw.choice((*_TEXTS[:4], "format", "a.b"))] = parent.pop(key)
        case 4:
            del parent[key]
        case _:
            parent[key] = copied
    return json.dumps(tree).encode()


def _deep_json(draw: random.Random, data: bytes, kind: str) -> bytes:
    depth = draw.choice((10, 900, 100_000))
    deep = draw.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    found = list(re.finditer(rb": ?([^{\[][^,}\]]*)", data)) or [None]
    match = draw.choice(found)
    return deep if match is None else data[: match.start(1)] + deep + data[match.end(1) :]


def _json_line(draw: random.Random, data: bytes, kind: str) -> bytes:
    lines = data.splitlines(keepends=True) or [b"{}\n"]
    index = draw.randrange(len(lines))
    lines[index] = draw.choice((_json_value, _deep_json))(draw, lines[index].strip() or b"{}", kind) + b"\n"
    return b"".join(lines)


def _npy_header(draw: random.Random, data: bytes, kind: str) -> bytes:
    shape = tuple(draw.choice((0, 1, 3, 24, 36, 1000, 2**31, 2**62, 2**64, -1)) for _ in range(draw.randrange(5)))
    dtype = draw.choice(("|u1", "<f4", ">f8", "|O", "<U9", "|S100000000", "|V9", "<c16", "<M8[s]", "|b1", "x", "|u3"))
    text = draw.choice((
        repr({"descr": dtype, "fortran_order": draw.random() < 0.5, "shape": shape}),
        repr({"descr": [("a", dtype), ("b", "|u1")], "fortran_order": False, "shape": shape}),
        "(" * 5000, "{" + "'a':" * 2000, "9" * 9000, "-" * 9000 + "1", "{'descr': " + "[" * 90 + "]" * 90 + "}",
    ))  # fmt: skip
    encoded = text.encode("latin-1") + b"\n"
    version, length = draw.choice(((b"\x01\0", "<H"), (b"\x02\0", "<I"), (b"\x03\0", "<I")))
    return (
        b"\x93NUMPY"
        + version
        + struct.pack(length, min(len(encoded), 65535))
        + encoded
        + data[-draw.choice((10, 2592)) :]
    )


def _safetensors_header(draw: random.Random, data: bytes, kind: str) -> bytes:
    length = int.from_bytes(data[:8], "little") % max(len(data), 1)
    header = draw.choice((_json_value, _json_value, _deep_json))(draw, data[8 : 8 + length].strip() or b"{}", kind)
    if draw.random() < 0.1:
        header = json.dumps(
            {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
        ).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _zip_member(draw: random.Random, data: bytes, kind: str) -> bytes:
    """Damages the content of a member, and packs it with the right checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return _set_field(draw, data, kind)
    if not members:
        return _flip(draw, data, kind)
    name = draw.choice(list(members))
    if name.endswith("data.pkl") and draw.random() < 0.8:
        members[name] = _opcodes(draw, members[name], kind)
    elif name.endswith(".npy") and draw.random() < 0.8:
        members[name] = _npy_header(draw, members[name], kind)
    elif draw.random() < 0.2:
        members[name] = bytes(draw.choice((10**6, 10**8)))
    elif draw.random() < 0.1:
        members |= {f"net/data/{i}" if "torch" in kind else f"m{i}.npy": b"" for i in range(5000)}
    else:
        members[name] = draw.choice((_flip, _truncate, _insert, _delete))(draw, members[name], kind)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw.choice((0, 8, 8, 12, 14)), compresslevel=1) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return without_time(buffer.getvalue())


def _opcodes(draw: random.Random, data: bytes, kind: str) -> bytes:
    """Inserts instructions of a pickle."""
    many = draw.choice((1, 3, 100, 100_000, 2_000_000))
    code = draw.choice((
        b"(", b")", b"}", b"]", b"N", b"\x85", b"\x86", b"\x94", b"0", b"2", b"t", b"l", b"e", b"u", b"h\0", b"q\0",
        b"R", b"b", b"Q", b"](", b")\x85", b"]a", b"(t", b"K\1", b"h\0h\0\x86q\0", b"]q\0h\0a", b"h\0h\0h\0\x87q\0",
        b"\x8a\xff" + b"\x7f" * 255, b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\0", b"r\xff\xff\xff\xff",
        b"ccollections\nOrderedDict\n)R", b"ctorch\nSize\nh\0\x85R", b"X\x10\0\0\0aaaaaaaaaaaaaaaa",
        b"}X\1\0\0\0aNs", b"\x95" + b"\xff" * 8,
    ))  # fmt: skip
    code *= min(many, 2_000_000 // len(code)) or 1
    place = draw.choice((2, _place(draw, data), len(data) - 1))
    return data[:place] + code + data[place:]


def _tar_member(draw: random.Random, data: bytes, kind: str) -> bytes:
    """Damages a header inside the compression, and corrects its checksum."""
    pack: Any = lambda content: content  # noqa: E731
    if kind == "tar-gz":
        try:
            data, pack = gzip.decompress(data), functools.partial(gzip.compress, mtime=0)
        except Exception:
            return _flip(draw, data, kind)
    elif kind not in ("tar", "tar-gnu"):
        return _flip(draw, data, kind)
    start = 512 * draw.randrange(max(len(data) // 512, 1))
    header = bytearray(data[start : start + 512].ljust(512, b"\0"))
    place, length = draw.choice(((0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    value = draw.choice((
        b"77777777777", b"00000000000", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1", b"\0" * 12, b"x" * 155, b"L", b"K",
        b"x", b"S", b"g", b"1", b"2", b"5", draw.randbytes(12),
    ))  # fmt: skip
    header[place : place + length] = value[:length].ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return pack(data[:start] + bytes(header) + data[start + 512 :])
