"""Arrays of mapped files are copied as they are, with the file's pages given back."""

import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from flaxseg.models.pretrained.mapped_file import aligned, in_memory, map_file

VALUES = np.arange(2 * 3 * 40 * 5, dtype=np.float32).reshape(2, 3, 40, 5)

VIEWS = {
    "as it is": VALUES,
    "a kernel": VALUES.transpose(2, 3, 1, 0),
    "a transposed matrix": VALUES.reshape(12, 100).T,
    "a vector": VALUES.reshape(-1),
    "a number": VALUES[1, 2, 3, 4],
    "nothing": VALUES[:0],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int32])
@pytest.mark.parametrize("name", VIEWS)
def test_the_values_are_copied(tmp_path, name, dtype):
    view = VIEWS[name]
    path = tmp_path / "file"
    path.write_bytes(b"head" + view.astype(dtype).tobytes())
    found = np.frombuffer(map_file(path), dtype, view.size, 4).reshape(view.shape)
    expected = found.astype(np.float32)
    copy = in_memory(found.T if "transposed" in name else found)
    path.unlink()
    np.testing.assert_array_equal(copy, expected.T if "transposed" in name else expected, strict=True)
    assert copy.flags.c_contiguous and copy.flags.writeable and (copy.size == 0 or copy.ctypes.data % 64 == 0)


def test_what_is_in_memory_is_not_copied():
    assert in_memory(VALUES) is VALUES
    np.testing.assert_array_equal(in_memory(VALUES.T), VALUES.T)


def test_the_device_uses_the_copy_in_place():
    array = aligned((16, 128))
    array[...] = 1
    on_device = jax.device_put(array, jax.devices("cpu")[0])
    assert on_device.unsafe_buffer_pointer() == array.ctypes.data


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_pages_of_the_file_are_given_back(tmp_path):
    def resident():
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("RssFile:")[2].split()[0])

    size = 2**25
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    array = np.frombuffer(map_file(path), np.float32)
    before = resident()
    assert array.max() == 0
    assert resident() - before > size / 2
    in_memory(array)
    assert resident() - before < size / 4
