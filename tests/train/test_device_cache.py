"""A dataset cached on the devices yields the same batches as one on the host, on any mesh."""

import jax
import numpy as np
import pytest

from flaxseg.errors import DataError
from flaxseg.train import device_cache
from flaxseg.train.sharding import AXES, make_mesh, place_batch


def read(index, channels=3):
    random = np.random.default_rng(index)
    image = random.integers(0, 256, (8, 6, channels), np.uint8)
    return {"image": image, "label": random.integers(0, 5, (8, 6), np.uint8), "id": str(index)}


@pytest.mark.parametrize("parts", [(1, 1, 1, 1), (1, 8, 1, 1), (1, 2, 2, 2), (2, 1, 2, 2)])
def test_a_batch_holds_the_examples_of_its_indices(parts):
    mesh = make_mesh(**dict(zip(AXES, parts, strict=True)))
    stored = device_cache.load(13, read, mesh, num_threads=2)
    split = parts[0] * parts[1] * parts[2]
    shard = stored["image"].addressable_shards[0].data.shape
    assert shard == (-(-13 // split), 8 // parts[3], 6, 3)
    take = jax.jit(lambda stored, index: device_cache.take(stored, index, mesh))
    for index in (np.arange(8), np.array([12, 0, 12, 5, 7, 7, 1, 3])):
        batch = take(stored, place_batch({"index": index.astype(np.int32)}, mesh)["index"])
        np.testing.assert_array_equal(batch["image"], np.stack([read(i)["image"] for i in index]))
        np.testing.assert_array_equal(batch["label"], np.stack([read(i)["label"] for i in index]))
        assert batch["image"].dtype == np.uint8
        assert batch["image"].sharding.is_equivalent_to(stored["image"].sharding, 4)


def test_the_first_example_is_read_twice_and_every_other_one_once():
    seen = []
    device_cache.load(5, lambda index: seen.append(index) or read(index), make_mesh(), num_threads=0)
    assert sorted(seen) == [0, 0, 1, 2, 3, 4]


def test_too_little_memory_and_different_channels_are_errors(monkeypatch):
    mesh = make_mesh()
    with pytest.raises(DataError, match=r"3: image is uint8\[8, 6, 1\] where 0 has uint8\[8, 6, 3\]"):
        device_cache.load(5, lambda i: read(i, 1 if i == 3 else 3), mesh, num_threads=1)
    monkeypatch.setattr(device_cache, "available_memory", lambda: 2**10)
    with pytest.raises(
        DataError, match=r"data.cache = 'device': 16 examples of 8x6x3 need 0.0 MiB here, and 0.0 MiB of"
    ):
        device_cache.load(16, read, mesh, num_threads=1)
