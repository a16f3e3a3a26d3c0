"""Weights files of every kind: told apart by their contents, and each mistake named."""

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
DAMAGED = "cut off or damaged: download it again"


def safe(header: dict, data: bytes, *, length: int | None = None) -> bytes:
    """A safetensors file with any header; `length` is what is said of the header's."""
    encoded = json.dumps(header).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def described(dtype: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def npz(*, packed: bool = False, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
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
    "npz, packed": npz(w=SIX, packed=True),
    "npz of half precision": npz(w=HALF),
    "npz in Fortran's order": npz(w=np.asfortranarray(SIX)),
    "npz of big-endian numbers": npz(w=SIX.astype(">f4")),
    "npz of version 2": zipped({"w.npy": npy(SIX, (2, 0))}),
    "torch": zip_of_torch(),
    "torch of half precision": zip_of_torch("Half", HALF),
    "torch of bfloat16": zip_of_torch("BFloat16", BRAIN),
    "torch before 1.6": legacy(),
    "torch before 1.6, of half precision": legacy("Half", HALF),
}


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "weights"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_contents_tell_the_kind(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(KINDS[kind])
    found = read_weights(path, sha256=hashlib.sha256(KINDS[kind]).hexdigest())
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], SIX, strict=True)
    assert found["w"].dtype.isnative


INTEGERS = {"count": np.array(7), "bytes": np.array([3, 255], np.uint8), "double": np.array([1 / 3])}


@pytest.mark.parametrize("data", [safetensors.numpy.save(INTEGERS), npz(**INTEGERS)], ids=["safetensors", "npz"])
def test_other_numbers_stay_as_they_are(tmp_path, data):
    (tmp_path / "w").write_bytes(data)
    found = read_weights(str(tmp_path / "w"))
    assert sorted(found) == sorted(INTEGERS)
    for name, array in INTEGERS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_truth_values_of_safetensors_are_read(tmp_path):
    (tmp_path / "w").write_bytes(safe({"w": described("BOOL", [3], 0, 3)}, bytes([0, 1, 7])))
    found = read_weights(tmp_path / "w")["w"]
    assert found.dtype == np.bool_ and found.view(np.uint8).tolist() == [0, 1, 1]


def test_the_home_directory_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").write_bytes(KINDS["npz"])
    np.testing.assert_array_equal(read_weights("~/w")["w"], SIX)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 102502400\n"
FLOATS = described("F32", [2, 3], 0, 24)

REFUSED = {
    "empty": (b"", ("is empty (0 bytes)", "download it again")),
    "pointer of Git LFS": (POINTER, ("is a pointer of Git LFS", "git lfs pull")),
    "web page": (b"<!DOCTYPE html><html><title>Sign in", ("is a web page", "by the link of the file itself")),
    "web page after blanks": (b"\n  <html lang='en'>", ("is a web page",)),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied', ("is a web page",)),
    "text": (b"Entry not found", ("is no weights file; it begins with b'Entry no'", "read are safetensors, npz")),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), (r"begins with b'\x89HDF\r\n\x1a\n'", "torch.save() writes")),
    "npy": (npy(SIX), ("is no weights file", "NUMPY")),
    "torch, runs": (program(called("os.system", text("touch ran"))), ("names os.system", "Nothing of it was run")),
    "other pickle": (program(text("x")), ("is a pickle, but not one of torch.save()",)),
    "zip of another kind": (zipped({"net/w.safetensors": b"x"}), ("holds 'net/w.safetensors'", "unpack it")),
    "zip of nothing": (zipped({}), ("is no weights file",)),
    "zip cut off": (KINDS["npz"][:-30], ("File is not a zip file", DAMAGED)),
    "safetensors, header beyond the file": (
        safe({"w": FLOATS}, bytes(24), length=10**6), ("header is said to be 1,000,000 bytes long", DAMAGED),
    ),
    "safetensors, absurd header": (safe({"w": FLOATS}, bytes(24), length=2**64 - 1), ("18,446,744,073,709,551,615",)),
    "safetensors, offsets beyond the file": (
        safe({"w": described("F32", [2, 4], 0, 32)}, bytes(24)), ("header does not fit its contents", DAMAGED),
    ),
    "safetensors, tensors that overlap": (
        safe({"a": FLOATS, "b": described("F32", [2, 3], 12, 36)}, bytes(36)), ("header does not fit its contents",),
    ),
    "safetensors, tensors with a gap": (safe({"w": FLOATS}, bytes(30)), ("header does not fit its contents",)),
    "safetensors, huge shape": (
        safe({"w": described("F32", [2**40, 2**40], 0, 24)}, bytes(24)), ("header does not fit its contents",),
    ),
    "safetensors, shape of other size": (
        safe({"w": described("F32", [7], 0, 24)}, bytes(24)), ("header does not fit its contents",),
    ),
    "safetensors, cut off": (KINDS["safetensors"][:-1], (DAMAGED,)),
    "safetensors, no JSON": ((9).to_bytes(8, "little") + b"{nothing}", ("header does not fit its contents",)),
    "safetensors of another type": (
        safe({"w": described("F8_E4M3", [6], 0, 6)}, bytes(6)), ("tensor 'w' is of type F8_E4M3; read are F64, F32",),
    ),
    "npz of objects": (
        npz(w=np.array([{}], object)), ("array 'w.npy' holds pickled Python objects, which are never loaded",),
    ),
    "npz of texts": (npz(w=np.array(["a"])), ("holds values of type <U1; save arrays of float32",)),
    "npz of bfloat16": (npz(w=np.ones(3, "V2")), ("holds values of type |V2",)),
    "npz of version 3": (zipped({"w.npy": npy(SIX, (3, 0))}), ("is of version (3, 0) of the format",)),
    "npz, packed zeros": (npz(w=np.zeros(20_000_000, np.float32), packed=True), ("unfolds to 80,000,1", "at most 67,")),
    "npz, more numbers than there are": (
        zipped({"w.npy": npy(SIX).replace(b"(2, 3)", b"(9, 9)")}), ("has 24 bytes of numbers instead of 324", DAMAGED),
    ),
    "npz, huge shape": (
        zipped({"w.npy": npy(np.zeros(11111, "i1")).replace(b"11111", b"9" * 5)}), ("instead of 99,999", DAMAGED),
    ),
    "npz, negative shape": (zipped({"w.npy": npy(SIX).replace(b"(2, 3)", b"(-2,3)")}), (DAMAGED,)),
    "npz, nothing in an array": (zipped({"w.npy": b""}), (DAMAGED,)),
    "npz, header of nested brackets": (
        zipped({"w.npy": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 9999 + b"\n"}), (DAMAGED,),
    ),
    "npz, packed otherwise": (zipped({"w.npy": npy(SIX)}, method=zipfile.ZIP_BZIP2), ("is encrypted or packed by",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_message_names_the_file_and_the_mistake(tmp_path, monkeypatch, kind):
    data, says = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    for part in (f"{path}: ", *says):
        assert part in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


def test_a_path_that_is_no_file_is_named(tmp_path):
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


def test_a_file_without_the_right_to_read_it_is_named(tmp_path, monkeypatch):
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


def test_another_digest_is_refused_with_both(tmp_path):
    path, digest = saved(tmp_path)
    wanted = digest[:11] + ("0" if digest[11] != "0" else "1")
    with pytest.raises(WeightsError, match=rf"{path}: its SHA-256 is {digest}, but {wanted} is expected"):
        read_weights(path, sha256=wanted)


@pytest.mark.parametrize("digest", ["1234567", "g" * 64, "0" * 65, "sha256:12345678", "12345678\n"])
def test_what_is_no_digest_is_refused(tmp_path, digest):
    path, _ = saved(tmp_path)
    with pytest.raises(WeightsError, match=r"is no SHA-256; give its 64 hexadecimal digits, or at least the first 8"):
        read_weights(path, sha256=digest)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz, packed"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    for length in range(len(KINDS[kind])):
        (tmp_path / "w").write_bytes(KINDS[kind][:length])
        with pytest.raises(WeightsError, match=r"/w: "):
            read_weights(tmp_path / "w")


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz, packed", "torch", "torch before 1.6"])
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
            # Zip files have checksums; the others give a changed number as it is.
            assert kind not in ("npz", "npz, packed", "torch") or np.array_equal(found["w"], SIX)
    assert len(refusals) > 10
    assert all(f"{tmp_path}/w: " in refusal for refusal in refusals)
