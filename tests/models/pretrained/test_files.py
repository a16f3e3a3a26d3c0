"""Weights files of every format: they are detected from their contents, and errors name the cause."""

import errno
import hashlib
import io
import json
import random
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from torch_files import called, legacy_file, program, storage, table, tensor, text, zip_file, zipped

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.files import read_weights

SIX = np.arange(6, dtype=np.float32).reshape(2, 3)
DAMAGED = "truncated or damaged: download it again"


def safe(header: dict, data: bytes, *, length: int | None = None) -> bytes:
    """Returns a safetensors file with any header, which claims to be `length` bytes long."""
    encoded = json.dumps(header).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def described(dtype: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def npz(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def legacy(kind: str = "Float", array: np.ndarray = SIX) -> bytes:
    stored = storage(kind, "0", 6, legacy=True)
    return legacy_file(table({"w": tensor(stored, (2, 3), (3, 1))}), {"0": (6, array.tobytes())})


def zip_of_torch(kind: str = "Float", array: np.ndarray = SIX) -> bytes:
    return zip_file(table({"w": tensor(storage(kind, "0", 6), (2, 3), (3, 1))}), {"0": array.tobytes()})


HALF, BRAIN = SIX.astype(np.float16), SIX.astype(ml_dtypes.bfloat16)
KINDS = {
    "safetensors": safetensors.numpy.save({"w": SIX}),
    "safetensors of half precision": safetensors.numpy.save({"w": HALF}),
    "safetensors of bfloat16": safe({"w": described("BF16", [2, 3], 0, 12)}, BRAIN.tobytes()),
    "npz": npz(w=SIX),
    "npz, compressed": npz(w=SIX, compressed=True),
    "npz of half precision": npz(w=HALF),
    "npz in Fortran order": npz(w=np.asfortranarray(SIX)),
    "npz of big-endian numbers": npz(w=SIX.astype(">f4")),
    "npz of version 2": zipped({"w.npy": npy(SIX, (2, 0))}),
    "torch": zip_of_torch(),
    "torch of half precision": zip_of_torch("Half", HALF),
    "torch of bfloat16": zip_of_torch("BFloat16", BRAIN),
    "torch before 1.6": legacy(),
    "torch before 1.6, of half precision": legacy("Half", HALF),
}
TYPES = {kind: np.float16 for kind in KINDS if "half" in kind} | {"safetensors of bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "weights"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_format_is_detected_from_the_contents(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(KINDS[kind])
    found = read_weights(path, sha256=hashlib.sha256(KINDS[kind]).hexdigest())
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"].astype(np.float32), SIX, strict=True)
    assert found["w"].dtype == TYPES.get(kind, np.float32)
    assert found["w"].dtype.isnative


INTEGERS = {"count": np.array(7), "bytes": np.array([3, 255], np.uint8), "double": np.array([1 / 3])}


@pytest.mark.parametrize("data", [safetensors.numpy.save(INTEGERS), npz(**INTEGERS)], ids=["safetensors", "npz"])
def test_other_types_are_kept(tmp_path, data):
    (tmp_path / "w").write_bytes(data)
    found = read_weights(str(tmp_path / "w"))
    assert sorted(found) == sorted(INTEGERS)
    for name, array in INTEGERS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_booleans_of_safetensors_are_read(tmp_path):
    (tmp_path / "w").write_bytes(safe({"w": described("BOOL", [3], 0, 3)}, bytes([0, 1, 7])))
    found = read_weights(tmp_path / "w")["w"]
    assert found.dtype == np.bool_ and found.view(np.uint8).tolist() == [0, 1, 1]


def test_a_tilde_stands_for_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").write_bytes(KINDS["npz"])
    np.testing.assert_array_equal(read_weights("~/w")["w"], SIX)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 102502400\n"
FLOATS = described("F32", [2, 3], 0, 24)

REFUSED = {
    "empty": (b"", ("is empty (0 bytes)", "download it again")),
    "Git LFS pointer": (POINTER, ("is a Git LFS pointer", "git lfs pull")),
    "web page": (b"<!DOCTYPE html><html><title>Sign in", ("is a web page", "with the link of the file itself")),
    "web page after blanks": (b"\n  <html lang='en'>", ("is a web page",)),
    "error of an object store": (b'<?xml version="1.0"?><Error><Code>AccessDenied', ("is a web page",)),
    "text file": (
        b"Entry not found", ("is not a weights file; it begins with b'Entry no'", "supported are safetensors, npz"),
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), (r"begins with b'\x89HDF\r\n\x1a\n'", "torch.save() writes")),
    "npy": (npy(SIX), ("is not a weights file", "NUMPY")),
    "torch, runs code": (program(called("os.system", text("touch ran"))), ("names os.system", "None of it was run")),
    "other pickle": (program(text("x")), ("is a pickle, but torch.save() did not write it",)),
    "zip of another kind": (zipped({"net/w.safetensors": b"x"}), ("contains 'net/w.safetensors'", "unpack it")),
    "zip of nothing": (zipped({}), ("is not a weights file",)),
    "zip, truncated": (KINDS["npz"][:-30], ("File is not a zip file", DAMAGED)),
    "safetensors, header beyond the file": (
        safe({"w": FLOATS}, bytes(24), length=10**6), ("header claims to be 1,000,000 bytes long", DAMAGED),
    ),
    "safetensors, absurd header": (safe({"w": FLOATS}, bytes(24), length=2**64 - 1), ("18,446,744,073,709,551,615",)),
    "safetensors, offsets beyond the file": (
        safe({"w": described("F32", [2, 4], 0, 32)}, bytes(24)), ("header does not fit its contents", DAMAGED),
    ),
    "safetensors, overlapping tensors": (
        safe({"a": FLOATS, "b": described("F32", [2, 3], 12, 36)}, bytes(36)), ("header does not fit its contents",),
    ),
    "safetensors, tensors with a gap": (safe({"w": FLOATS}, bytes(30)), ("header does not fit its contents",)),
    "safetensors, huge shape": (
        safe({"w": described("F32", [2**40, 2**40], 0, 24)}, bytes(24)), ("header does not fit its contents",),
    ),
    "safetensors, shape of other size": (
        safe({"w": described("F32", [7], 0, 24)}, bytes(24)), ("header does not fit its contents",),
    ),
    "safetensors, truncated": (KINDS["safetensors"][:-1], (DAMAGED,)),
    "safetensors, no JSON": ((9).to_bytes(8, "little") + b"{nothing}", ("header does not fit its contents",)),
    "safetensors of another type": (
        safe({"w": described("F8_E4M3", [6], 0, 6)}, bytes(6)),
        ("tensor 'w' has type F8_E4M3; supported are F64, F32",),
    ),
    "npz of objects": (
        npz(w=np.array([{}], object)), ("array 'w.npy' contains pickled Python objects, which are never loaded",),
    ),
    "npz of strings": (npz(w=np.array(["a"])), ("contains values of type <U1; save arrays of float32",)),
    "npz of bfloat16": (npz(w=np.ones(3, "V2")), ("contains values of type |V2",)),
    "npz of version 3": (zipped({"w.npy": npy(SIX, (3, 0))}), ("has version (3, 0) of the format",)),
    "npz, compressed zeros": (
        npz(w=np.zeros(20_000_000, np.float32), compressed=True), ("unpacks to 80,000,1", "at most 67,"),
    ),
    "npz, more numbers than there are": (
        zipped({"w.npy": npy(SIX).replace(b"(2, 3)", b"(9, 9)")}), ("has 24 bytes of numbers instead of 324", DAMAGED),
    ),
    "npz, huge shape": (
        zipped({"w.npy": npy(np.zeros(11111, "i1")).replace(b"11111", b"9" * 5)}), ("instead of 99,999", DAMAGED),
    ),
    "npz, negative shape": (zipped({"w.npy": npy(SIX).replace(b"(2, 3)", b"(-2,3)")}), (DAMAGED,)),
    "npz, nothing in an array": (zipped({"w.npy": b""}), (DAMAGED,)),
    "npz, nested brackets in the header": (
        zipped({"w.npy": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 9999 + b"\n"}), (DAMAGED,),
    ),
    "npz, compressed by bzip2": (
        zipped({"w.npy": npy(SIX)}, method=zipfile.ZIP_BZIP2), ("is encrypted or compressed by",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_errors_name_the_file_and_the_cause(tmp_path, monkeypatch, kind):
    data, says = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    for part in (f"{path}: ", *says):
        assert part in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


def test_a_path_that_is_not_a_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=rf"{tmp_path}/w\.pth: does not exist; give the path of a weights file"):
        read_weights(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"{tmp_path}: is a directory; give the file of weights in it"):
        read_weights(tmp_path)
    with pytest.raises(WeightsError, match=r"~nobody-of-this-name/w\.pth: does not exist"):
        read_weights("~nobody-of-this-name/w.pth")
    with pytest.raises(WeightsError, match=r"/dev/zero: is a device or a pipe"):
        read_weights("/dev/zero")
    with pytest.raises(WeightsError, match=rf"{tmp_path}/x+: cannot be read \(.*File name too long"):
        read_weights(tmp_path / ("x" * 300))


def test_a_file_without_read_permission_is_named(tmp_path, monkeypatch):
    path, _ = saved(tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(WeightsError, match=rf"{path}: cannot be opened \(Permission denied\)"):
        read_weights(path)


def saved(folder: Path) -> tuple[Path, str]:
    (folder / "w").write_bytes(KINDS["npz"])
    return folder / "w", hashlib.sha256(KINDS["npz"]).hexdigest()


@pytest.mark.parametrize("digits", [8, 12, 63, 64])
def test_the_first_digits_of_the_digest_suffice(tmp_path, digits):
    path, digest = saved(tmp_path)
    np.testing.assert_array_equal(read_weights(path, sha256=digest[:digits].upper())["w"], SIX)


def test_the_error_for_another_digest_has_both(tmp_path):
    path, digest = saved(tmp_path)
    wanted = digest[:11] + ("0" if digest[11] != "0" else "1")
    with pytest.raises(WeightsError, match=rf"{path}: its SHA-256 is {digest}, but {wanted} is expected"):
        read_weights(path, sha256=wanted)


@pytest.mark.parametrize("digest", ["1234567", "g" * 64, "0" * 65, "sha256:12345678", "12345678\n"])
def test_an_invalid_digest_is_refused(tmp_path, digest):
    path, _ = saved(tmp_path)
    with pytest.raises(
        WeightsError, match=r"is not a SHA-256; give its 64 hexadecimal digits, or at least the first 8"
    ):
        read_weights(path, sha256=digest)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz, compressed"])
def test_a_file_truncated_anywhere_is_refused(tmp_path, kind):
    for length in range(len(KINDS[kind])):
        (tmp_path / "w").write_bytes(KINDS[kind][:length])
        with pytest.raises(WeightsError, match=r"/w: "):
            read_weights(tmp_path / "w")


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz, compressed", "torch", "torch before 1.6"])
def test_a_damaged_file_is_refused_or_read(tmp_path, kind):
    draw, data = random.Random(1), KINDS[kind]
    refusals = []
    for _ in range(100):
        place = draw.randrange(len(data))
        changed = data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
        (tmp_path / "w").write_bytes(changed)
        try:
            found = read_weights(tmp_path / "w")
        except WeightsError as error:
            refusals.append(str(error))
        else:
            # Zip files have checksums; in other formats, a changed number is read as it is.
            assert kind not in ("npz", "npz, compressed", "torch") or np.array_equal(found["w"], SIX)
    assert len(refusals) > 10
    assert all(f"{tmp_path}/w: " in refusal for refusal in refusals)
