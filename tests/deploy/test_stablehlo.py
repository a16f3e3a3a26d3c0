"""StableHLO files compute what the network does, for batches and images of all sizes."""

import jax
import numpy as np
import pytest
from exported_networks import trained
from jax import export

from flaxseg.deploy.program import Sizes, make_program
from flaxseg.deploy.stablehlo import PLATFORMS, read_stablehlo, stablehlo_program
from flaxseg.errors import ExportError


@pytest.fixture(scope="module")
def network():
    found = trained("plain_unet", width=2, depth=2)
    return found.description.build(), found.variables


def written(folder, network, *, output="logits", fixed=None):
    program = make_program(*network, normalized=True, output=output)
    sizes = Sizes(4, 4, fixed=fixed)
    (folder / "file").write_bytes(stablehlo_program(program, channels=3, sizes=sizes))
    return read_stablehlo(folder / "file"), program


def test_one_file_serves_all_sizes_and_platforms(network, tmp_path):
    call, program = written(tmp_path, network)
    for shape in ((1, 4, 4, 3), (3, 8, 12, 3)):
        image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        np.testing.assert_allclose(call(image), jax.jit(program)(image), atol=1e-5)
    with pytest.raises(ValueError, match="rows"):
        call(np.zeros((1, 6, 8, 3)))
    exported = export.deserialize(bytearray((tmp_path / "file").read_bytes()))
    assert exported.platforms == PLATFORMS == ("cpu", "cuda", "tpu")


def test_padding_with_the_mean_outside_equals_the_padding_of_the_network(tmp_path):
    found = trained("plain_unet", width=2, depth=2, mean=(90.0, 127.5, 130.0), std=(50.0, 60.0, 70.0))
    call, program = written(tmp_path, (found.description.build(), found.variables))
    image = np.random.default_rng(0).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)
    padded = np.broadcast_to(np.float32(found.description.mean), (2, 8, 8, 3)).copy()
    padded[:, :5, :7] = image
    np.testing.assert_allclose(call(padded)[:, :5, :7], jax.jit(program)(image), atol=1e-5)


@pytest.mark.parametrize("output", ["classes", "probabilities"])
def test_other_outputs_and_a_fixed_size(network, tmp_path, output):
    call, _ = written(tmp_path, network, output=output, fixed=(8, 4))
    image = np.random.default_rng(0).uniform(0, 255, (2, 8, 4, 3)).astype(np.float32)
    logits = np.asarray(jax.jit(make_program(*network, normalized=True, output="logits"))(image))
    found = np.asarray(call(image))
    if output == "classes":
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, logits.argmax(-1))
    else:
        np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-6)


def test_a_program_that_depends_on_the_size_gets_a_fixed_one():
    def program(image):
        return image * 2 if image.shape[1] > 9 else image

    with pytest.raises(ExportError, match=r"jax\.export cannot trace this network for images of any size \("):
        stablehlo_program(program, channels=1, sizes=Sizes(1, 1))
    call = export.deserialize(bytearray(stablehlo_program(program, channels=1, sizes=Sizes(1, 5, fixed=(5, 7))))).call
    np.testing.assert_array_equal(call(np.ones((2, 5, 7, 1), np.float32)), np.ones((2, 5, 7, 1)))


@pytest.mark.parametrize("data", [b"", b"other", bytes(1000)])
def test_a_damaged_file_is_one_error(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ExportError, match=r"file: cannot be read as a program of jax\.export .*; export it again"):
        read_stablehlo(tmp_path / "file")
