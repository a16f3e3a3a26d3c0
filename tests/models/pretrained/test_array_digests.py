"""The digests of arrays: of which bytes, for which parts, and what they notice."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.models.pretrained.array_digests import digests_of, find_changed, held_parts, merged
from flaxseg.train.sharding import make_mesh


def sharded(values, *axes):
    mesh = make_mesh(data=2, fsdp=4)
    return jax.device_put(values, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)))


def test_a_digest_is_that_of_the_type_the_shape_and_the_bytes():
    scale = jnp.array([1.0, -2.0], jnp.bfloat16)
    found = digests_of(held_parts({"scale": scale, "opt": ({"count": jnp.int32(3)}, None)}))
    # 1 and -2 as bfloat16, and 3 as int32, little-endian.
    expected = {
        "scale": {"0:2": hashlib.sha256(b"bfloat16 (2,)" + bytes.fromhex("803f00c0")).hexdigest()},
        "opt/0/count": {"": hashlib.sha256(b"int32 ()" + bytes.fromhex("03000000")).hexdigest()},
    }
    assert found == expected


def test_each_part_of_a_sharded_array_has_one_digest():
    values = np.arange(32, dtype=np.float32).reshape(4, 8)
    found = digests_of(held_parts({"kernel": sharded(values, None, "fsdp"), "bias": sharded(values[0])}))
    assert list(found["kernel"]) == ["0:4,0:2", "0:4,2:4", "0:4,4:6", "0:4,6:8"]
    assert found["kernel"]["0:4,2:4"] == digests_of([("part", "", values[:, 2:4])])["part"][""]
    assert list(found["bias"]) == ["0:8"]


@pytest.mark.parametrize("axes", [(), ("fsdp",), (None, "data")])
def test_a_changed_bit_is_found_for_any_sharding(axes):
    values = np.zeros((4, 8), np.float32)
    digests = digests_of(held_parts({"kernel": sharded(values, None, "fsdp")}))
    assert find_changed({"kernel": sharded(values, *axes)}, digests) == ""
    values[3, 7] = -0.0
    assert find_changed({"kernel": sharded(values, *axes)}, digests) == "kernel"
    assert find_changed({"kernel": values}, digests) == "kernel"


def test_what_has_no_digest_is_not_checked():
    digests = digests_of(held_parts({"kernel": jnp.ones(3)}))
    assert find_changed({"bias": jnp.ones(3)}, digests) == ""
    assert find_changed({"kernel": jnp.ones(2)}, digests) == ""


def test_the_digests_of_several_processes_are_merged_by_part():
    first, second = {"kernel": {"0:2": "a"}, "bias": {"0:1": "b"}}, {"kernel": {"2:4": "c"}}
    assert merged([first, second]) == {"kernel": {"0:2": "a", "2:4": "c"}, "bias": {"0:1": "b"}}
