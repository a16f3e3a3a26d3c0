"""Meshes of devices."""

import dataclasses
import unittest.mock

import pytest

from flaxseg.errors import ArgumentError
from flaxseg.train.sharding import batch_divisor, grid_of, make_mesh


@dataclasses.dataclass(frozen=True)
class FakeDevice:
    number: int
    slice_index: int


def test_the_data_axis_takes_the_remaining_devices():
    mesh = make_mesh(fsdp=2, spatial=2)
    assert dict(mesh.shape) == {"replicas": 1, "data": 2, "fsdp": 2, "spatial": 2}
    assert batch_divisor(mesh) == 4
    assert batch_divisor(make_mesh(replicas=2, spatial=2)) == 4


def test_a_replica_is_within_a_slice():
    """Devices of two slices in turn, as processes may list them."""
    devices = [FakeDevice(number, number % 2) for number in range(8)]
    with unittest.mock.patch("jax.devices", return_value=devices):
        grid = grid_of(replicas=2, fsdp=2)
    assert [[device.slice_index for device in replica.ravel()] for replica in grid] == [[0] * 4, [1] * 4]
    assert [device.number for device in grid[0].ravel()] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"data": 16}, "data = 16: with fsdp = 1, spatial = 1 and replicas = 1, the mesh has 16 devices"),
        ({"data": 3}, "data = 3: .* 3 devices, which does not divide the number of devices, 8"),
        ({"fsdp": 16}, "data = -1: with fsdp = 16, spatial = 1 and replicas = 1, the mesh has 16 devices"),
    ],
)
def test_a_mesh_has_to_fit_the_devices(parts, message):
    with pytest.raises(ArgumentError, match=message):
        make_mesh(**parts)
