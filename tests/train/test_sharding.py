"""Meshes of devices."""

import pytest

from flaxseg.errors import ArgumentError
from flaxseg.train.sharding import batch_divisor, make_mesh


def test_the_data_axis_takes_the_remaining_devices():
    mesh = make_mesh(fsdp=2, spatial=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "spatial": 2}
    assert batch_divisor(mesh) == 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"data": 16}, "data = 16: with fsdp = 1 and spatial = 1, the mesh has 16 devices"),
        ({"data": 3}, "data = 3: .* 3 devices, which does not divide the number of devices, 8"),
        ({"fsdp": 16}, "data = -1: with fsdp = 16 and spatial = 1, the mesh has 16 devices"),
    ],
)
def test_a_mesh_has_to_fit_the_devices(parts, message):
    with pytest.raises(ArgumentError, match=message):
        make_mesh(**parts)
