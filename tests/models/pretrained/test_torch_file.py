"""PyTorch files: their tensors are read, and code in them is never run."""

import random
import struct
import time
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from torch_files import (
    called,
    legacy_file,
    listed,
    named,
    number,
    program,
    storage,
    table,
    tensor,
    text,
    values,
    zip_file,
    zipped,
)

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.torch_file import read_torch

SIX = np.arange(6, dtype=np.float32)


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "w.pth"
    path.write_bytes(data)
    return path


def in_both_formats(items, stored: np.ndarray, kind: str = "Float", *, order: str = "little") -> dict[str, bytes]:
    """Returns files with one storage; `items` returns the saved object's instructions, given the storage's."""
    data = (stored.astype(stored.dtype.newbyteorder(">")) if order == "big" else stored).tobytes()
    return {
        "zip": zip_file(items(storage(kind, "0", stored.size)), {"0": data}, order=order),
        "legacy": legacy_file(
            items(storage(kind, "0", stored.size, legacy=True)), {"0": (stored.size, data)}, order=order
        ),
    }


NUMBERS = {
    "Float": (np.float32, [1.5, -2, np.inf]),
    "Double": (np.float64, [1 / 3, -2, 1e300]),
    "Half": (np.float16, [1.5, -2, 65504]),
    "Long": (np.int64, [1, -2, 2**62]),
    "Int": (np.int32, [1, -2, 2**30]),
    "Short": (np.int16, [1, -2, 2**14]),
    "Char": (np.int8, [1, -2, 127]),
    "Byte": (np.uint8, [1, 2, 255]),
}


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_every_kind_of_number_is_read(tmp_path, kind, order, container):
    expected = np.array(NUMBERS[kind][1], NUMBERS[kind][0])
    files = in_both_formats(lambda stored: table({"w": tensor(stored, (3,), (1,))}), expected, kind, order=order)
    found = read_torch(saved(tmp_path, files[container]))["w"]
    assert found.dtype == expected.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_bfloat16_becomes_float32(tmp_path, container):
    stored = np.array([1.5, -2, 3e38, np.nan], ml_dtypes.bfloat16)
    files = in_both_formats(lambda s: table({"w": tensor(s, (4,), (1,))}), stored, "BFloat16")
    found = read_torch(saved(tmp_path, files[container]))["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored.astype(np.float32))


def test_any_byte_but_zero_is_true(tmp_path):
    file = zip_file(table({"w": tensor(storage("Bool", "0", 3), (3,), (1,))}), {"0": bytes([0, 1, 7])})
    found = read_torch(saved(tmp_path, file))["w"]
    assert found.dtype == np.bool_ and found.view(np.uint8).tolist() == [0, 1, 1]


VIEWS = {
    "whole": ((2, 3), (3, 1), 0, [[0, 1, 2], [3, 4, 5]]),
    "transposed": ((3, 2), (1, 3), 0, [[0, 3], [1, 4], [2, 5]]),
    "part": ((2, 2), (3, 2), 0, [[0, 2], [3, 5]]),
    "with an offset": ((2,), (1,), 4, [4, 5]),
    "expanded": ((2, 3), (0, 1), 3, [[3, 4, 5], [3, 4, 5]]),
    "one number": ((), (), 5, 5),
    "stride of an axis of one": ((1, 2), (2**62, 1), 0, [[0, 1]]),
}  # fmt: skip


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_views_of_one_storage_become_separate_arrays(tmp_path, container):
    views = {name: view[:3] for name, view in VIEWS.items()} | {"none": ((0, 4), (4, 1), 6)}
    files = in_both_formats(lambda s: table({name: tensor(s, *view) for name, view in views.items()}), SIX)
    found = read_torch(saved(tmp_path, files[container]))
    assert list(found) == list(views)
    assert found["none"].shape == (0, 4)
    for name, view in VIEWS.items():
        np.testing.assert_array_equal(found[name], np.array(view[3], np.float32), strict=True)
    found["whole"][:] = 9
    assert found["with an offset"].tolist() == [4, 5]


def test_parameters_old_tensors_and_ordered_dicts_are_read(tmp_path):
    stored = storage("Float", "0", 6)
    old = called(
        "torch._utils._rebuild_tensor", stored, number(1), called("torch.Size", listed(number(2))), values(number(1))
    )
    parameter = called(
        "torch._utils._rebuild_parameter", tensor(stored, (1,), (1,), 2), b"\x88", called("collections.OrderedDict")
    )
    pairs = listed(listed(text("old"), old), listed(text("parameter"), parameter))
    # As Python 2 wrote an OrderedDict, with the attribute that torch gives a state dict.
    body = called("collections.OrderedDict", pairs) + table({"_metadata": table({"": number(1)})}) + b"b"
    found = read_torch(saved(tmp_path, zip_file(body, {"0": SIX.tobytes()})))
    assert {name: array.tolist() for name, array in found.items()} == {"old": [1, 2], "parameter": [2]}


W = table({"w": tensor(storage("Float", "0", 6), (6,), (1,))})
OTHER = table({"w": tensor(storage("Float", "1", 1), (), ())})


@pytest.mark.parametrize(
    "body",
    [
        W,
        table({"state_dict": W, "epoch": number(3), "name": text("net"), "rate": b"G" + struct.pack(">d", 0.1)}),
        table({"args": table({"steps": listed(number(1)), "none": b"N"}), "model": W}),
        table({"model_state_dict": W, "best": tensor(storage("Float", "1", 1), (), ())}),
        table({"ema": table({"decay": number(1), "module": W})}),
        table({"ema": OTHER, "state_dict": W}),
        table({"model": table({"depth": number(1)}), "ema": W}),
    ],
    ids=["flat", "epoch", "options", "lone tensor", "nested", "two", "model without tensors"],
)
def test_a_nested_state_dict_is_found(tmp_path, body):
    file = zip_file(body, {"0": SIX.tobytes(), "1": b"\0\0\0\0"})
    found = read_torch(saved(tmp_path, file))
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], SIX)


def test_a_deflated_file_is_read_without_unpacking_to_disk(tmp_path):
    members = {"net/data.pkl": program(W), "net/data/0": SIX.tobytes(), "../../outside": b"x", "/tmp_outside": b"x"}
    path = saved(tmp_path, zipped(members, method=zipfile.ZIP_DEFLATED))
    np.testing.assert_array_equal(read_torch(path)["w"], SIX)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]
    assert not (tmp_path.parent.parent / "outside").exists()


def test_unused_storages_are_not_read(tmp_path):
    """An optimizer's state is larger than the weights."""
    state = table({"momentum": tensor(storage("Float", "1", 2), (2,), (1,))})
    file = zip_file(table({"optimizer": state, "model": W}), {"0": SIX.tobytes()})
    np.testing.assert_array_equal(read_torch(saved(tmp_path, file))["w"], SIX)


def with_pickle(body: bytes) -> bytes:
    return zip_file(body, {"0": SIX.tobytes()})


def view(shape=(6,), strides=(1,), offset=0, length=6, data=None) -> bytes:
    stored = storage("Float", "0", length)
    return zip_file(
        table({"w": tensor(stored, shape, strides, offset)}), {"0": SIX.tobytes() if data is None else data}
    )


MARKER = "ran"
TOUCH = text(f"touch {MARKER}")
NOT_RUN = "None of it was run"
DAMAGED = "it is truncated or damaged: download it again"
BEYOND = "in a storage of 6 numbers"

REFUSED = {
    "os.system": (with_pickle(called("os.system", TOUCH)), ("names os.system, which", NOT_RUN, "state_dict()")),
    "posix.system, legacy": (legacy_file(called("posix.system", TOUCH), {}), ("names posix.system", NOT_RUN)),
    "first pickle of the file": (program(called("os.system", TOUCH)), ("names os.system", NOT_RUN)),
    "eval": (with_pickle(called("builtins.eval", text(f"open('{MARKER}', 'w')"))), ("names builtins.eval", NOT_RUN)),
    "nested": (
        with_pickle(table({"state_dict": W, "x": listed(values(called("subprocess.call", TOUCH)))})),
        ("names subprocess.call", NOT_RUN),
    ),
    "name from the stack": (
        with_pickle(text("os") + text("system") + b"\x93" + values(TOUCH) + b"R"), ("names os.system", NOT_RUN),
    ),
    "dotted name": (
        with_pickle(text("torch") + text("_utils.os.system") + b"\x93" + values(TOUCH) + b"R"),
        ("names torch._utils.os.system", NOT_RUN),
    ),
    "whole network": (
        with_pickle(called("torchvision.models.resnet.ResNet")), ("names torchvision.models.resnet.ResNet", "alone"),
    ),
    "other functions of PyTorch": (
        with_pickle(called("torch.storage._load_from_bytes", text(""))), ("names torch.storage._load_from_bytes",),
    ),
    "INST": (with_pickle(b"(" + TOUCH + b"ios\nsystem\n"), ("the instruction INST", NOT_RUN)),
    "OBJ": (with_pickle(b"(" + named("os.system") + TOUCH + b"o"), ("names os.system", NOT_RUN)),
    "OBJ of an allowed name": (with_pickle(b"(" + named("torch.Size") + b"o"), ("the instruction OBJ", NOT_RUN)),
    "NEWOBJ": (with_pickle(named("collections.OrderedDict") + b")\x81"), ("the instruction NEWOBJ", NOT_RUN)),
    "EXT1": (with_pickle(b"\x82\x01" + values(TOUCH) + b"R"), ("the instruction EXT1", NOT_RUN)),
    "EXT4": (with_pickle(b"\x84\x01\x00\x00\x00"), ("the instruction EXT4", NOT_RUN)),
    "call of a class of numbers": (with_pickle(called("torch.FloatStorage", number(9))), ("calls torch.FloatStorage",)),
    "call of a string": (with_pickle(TOUCH + values() + b"R"), ("calls something that is not a function", NOT_RUN)),
    "other data": (with_pickle(values(text("module"), text("x")) + b"Q"), ("data that is not the storage", NOT_RUN)),
    "data of a function": (
        with_pickle(values(text("storage"), named("torch.Size"), text("0"), text("cpu"), number(6)) + b"Q"),
        ("data that is not the storage",),
    ),
    "part of a storage": (
        with_pickle(storage("Float", "0", 6)[:-2] + values(text("1"), number(0), number(1)) + b"tQ"),
        ("data that is not the storage",),
    ),
    "storage under a path": (
        zip_file(table({"w": tensor(storage("Float", "../../../etc/passwd", 6), (6,), (1,))}), {}),
        ("has no member 'net/data/../../../etc/passwd'", DAMAGED),
    ),
    "storage of two kinds": (
        with_pickle(listed(storage("Float", "0", 6), storage("Long", "0", 3))), ("described in two ways", DAMAGED),
    ),
    "shape beyond the storage": (view((7,)), ("shape (7,), strides (1,) and offset 0", BEYOND, DAMAGED)),
    "strides beyond the storage": (view((2, 2), (5, 1)), ("strides (5, 1)", BEYOND)),
    "offset beyond the storage": (view((1,), offset=6), ("offset 6", BEYOND)),
    "huge shape": (view((2**40, 2**40), (2**62, 2**62)), (BEYOND,)),
    "negative stride": (view((2,), (-1,), 5), ("invalid storage, offset, shape or strides", DAMAGED)),
    "negative offset": (view((2,), (1,), -2), ("invalid storage, offset, shape or strides",)),
    "negative shape": (view((-1,)), ("invalid storage, offset, shape or strides",)),
    "strides of another length": (view((2, 2), (1,)), ("shape (2, 2) with strides (1,)", DAMAGED)),
    "no numbers, of huge shape": (view((0, 2**62, 2**62), (1, 1, 1)), (DAMAGED,)),
    "storage shorter than said": (view(data=b"1234"), ("storage 0 has 4 bytes instead of 24", DAMAGED)),
    "storage longer than said": (view((5,), length=5), ("storage 0 has 24 bytes instead of 20",)),
    "few numbers, expanded": (view((2**20, 2**20), (0, 0)), ("unpacks to 4,398,046,511,104 bytes", "at most 67,1")),
    "compressed zeros": (
        zipped({"net/data.pkl": program(W), "net/data/0": bytes(70 * 2**20)}, method=zipfile.ZIP_DEFLATED),
        ("unpacks to 73,40", "Nothing was loaded"),
    ),
    "compressed by lzma": (
        zip_file(W, {}, method=zipfile.ZIP_LZMA), ("'net/data.pkl' is encrypted or compressed by",),
    ),
    "byte order": (zip_file(W, {"0": SIX.tobytes()}, order="middle"), ("byte order is b'middle' instead of little",)),
    "zip of another program": (zipped({"a.txt": b"a"}), ("without data.pkl",)),
    "other pickle": (program(table({"w": number(1)})), ("is a pickle, but torch.save() did not write it",)),
    "other version": (legacy_file(W, {}, protocol=1000), ("another version of PyTorch's format than 1001",)),
    "legacy, wrong count": (legacy_file(W, {"0": (5, SIX.tobytes())}), ("0 has 5 numbers instead of 6", DAMAGED)),
    "legacy, unlisted storage": (legacy_file(W, {}), ("list of storages does not fit: 0", DAMAGED)),
    "legacy, unknown storage": (legacy_file(W, {"0": (6, SIX.tobytes()), "9": (0, b"")}), ("does not fit: 9",)),
    "list": (with_pickle(listed(number(1))), ("contains no tensors by name", "it is a list", "model.state_dict()")),
    "no tensors": (
        with_pickle(table({"epoch": number(1), "x": b"N"})), ("contains no tensors", "its keys are epoch, x."),
    ),
    "items of a list": (with_pickle(b"]" + text("a") + number(1) + b"s"), ("not a dict", DAMAGED)),
    "item of no list": (with_pickle(b"}" + number(1) + b"a"), ("not a list", DAMAGED)),
    "empty stack": (with_pickle(b"R"), (DAMAGED,)),
    "unknown instruction": (with_pickle(b"\xff"), (r"b'\xff' is not an instruction of a pickle", DAMAGED)),
    "string of 4 GiB": (program(b"X\xff\xff\xff\xff"), (DAMAGED,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_file_is_refused_by_name_and_runs_nothing(tmp_path, monkeypatch, kind):
    data, says = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError) as caught:
        read_torch(saved(tmp_path, data))
    for part in (f"{tmp_path}/w.pth: ", *says):
        assert part in str(caught.value)
    assert not (tmp_path / MARKER).exists()


def test_instructions_that_exhaust_pythons_unpickler_are_harmless(tmp_path):
    # It would hash 400,000 nested tuples until the stack overflows, and allocate 64 GiB for the last memo index.
    tuples = b")" + b"\x85" * 400_000 + number(1) + b"s"
    far_off = text("x") + number(1) + b"r\xff\xff\xff\xff" + b"s"
    found = read_torch(saved(tmp_path, with_pickle(W + tuples + far_off)))
    np.testing.assert_array_equal(found["w"], SIX)


def test_a_pickle_of_millions_of_instructions_is_refused_early(tmp_path):
    nothing = (b"(t" + b"q\0") * 1_000_000
    path = saved(tmp_path, with_pickle(nothing + W))
    start = time.process_time()
    with pytest.raises(WeightsError, match="its pickle has more than 500,000 instructions. None of it was run"):
        read_torch(path)
    assert time.process_time() - start < 10


def test_attributes_are_not_set(tmp_path):
    state = values(b"N", table({"__call__": number(1), "name": text("os.system")})) + b"b"
    functions = listed(named("torch._utils._rebuild_tensor_v2") + state, named("torch.Size") + state)
    path = saved(tmp_path, with_pickle(table({"x": functions, "state_dict": W + state})))
    for _ in range(2):
        np.testing.assert_array_equal(read_torch(path)["w"], SIX)


def test_at_most_max_bytes_are_read(tmp_path):
    path = saved(tmp_path, view((4096, 6), (0, 1)))
    assert read_torch(path)["w"].shape == (4096, 6)
    with pytest.raises(WeightsError, match=r"w\.pth: its contents take 98,304 bytes, and at most 98,303 are allowed"):
        read_torch(path, max_bytes=98_303)


def both_files() -> dict[str, bytes]:
    return in_both_formats(
        lambda s: table({"state_dict": table({"a": tensor(s, (2, 3), (1, 2)), "b": tensor(s, (), (), 5)})}), SIX
    )


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_file_truncated_anywhere_is_refused(tmp_path, container):
    data = both_files()[container]
    assert len(read_torch(saved(tmp_path, data))) == 2
    for length in range(len(data)):
        with pytest.raises(WeightsError, match=r"w\.pth: "):
            read_torch(saved(tmp_path, data[:length]))


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_damaged_file_is_refused_or_read(tmp_path, container):
    """The zip format has checksums; in the older format, a changed number is read as it is."""
    draw, data = random.Random(0), both_files()[container]
    whole = read_torch(saved(tmp_path, data))
    refusals = []
    for _ in range(200):
        place = draw.randrange(len(data))
        changed = data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        try:
            found = read_torch(saved(tmp_path, changed))
        except WeightsError as error:
            refusals.append(str(error))
        else:
            assert container == "legacy" or all(np.array_equal(found[name], whole[name]) for name in whole)
    assert len(refusals) > 20
    assert all(refusal.startswith(f"{tmp_path}/w.pth: ") for refusal in refusals)
