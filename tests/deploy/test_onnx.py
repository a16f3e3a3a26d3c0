"""ONNX files compute what the network does; skipped where the extra `onnx` is not installed."""

import builtins

import jax
import numpy as np
import pytest
from exported_networks import trained

from flaxseg.deploy import onnx
from flaxseg.deploy.onnx import onnx_program, read_onnx
from flaxseg.deploy.program import Sizes, make_program
from flaxseg.errors import ExportError

needs_converter = pytest.mark.usefixtures("converter")


@pytest.fixture(scope="module")
def converter():
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("jax2onnx", reason="the extra `onnx` is not installed", exc_type=ImportError)


@needs_converter
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["logits", "probabilities", "classes"])
def test_a_file_serves_batches_of_all_sizes(tmp_path, output):
    network = trained("plain_unet", width=2, depth=2)
    program = make_program(network.description.build(), network.variables, normalized=True, output=output)
    data, sizes = onnx_program(program, channels=3, stride=4, size=(8, 12), output=output)
    assert sizes == Sizes(4, 8, fixed=(8, 12))
    (tmp_path / "file").write_bytes(data)
    call = read_onnx(tmp_path / "file")
    for batch in (1, 3):
        image = np.random.default_rng(0).uniform(0, 255, (batch, 8, 12, 3)).astype(np.float32)
        found, expected = call(image), np.asarray(jax.jit(program)(image))
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_converted_is_named():
    with pytest.raises(ExportError, match=r"jax2onnx cannot convert this network \(.*use --format=stablehlo"):
        onnx_program(jax.lax.linalg.cholesky, channels=8, stride=1, size=(8, 8), output="logits")


@needs_converter
def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"other")
    with pytest.raises(ExportError, match="file: ONNX Runtime cannot load it .*; export it again"):
        read_onnx(tmp_path / "file")


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    found = builtins.__import__

    def importing(name, *args, **kwargs):
        if name in ("jax2onnx", "onnxruntime"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(
        ExportError, match=r"ONNX files need jax2onnx, which is not installed; pip install 'flaxseg\[onnx\]'"
    ):
        onnx_program(lambda x: x, channels=1, stride=1, size=(8, 8), output="logits")
    with pytest.raises(ExportError, match=r"ONNX Runtime is not installed; pip install 'flaxseg\[onnx\]'"):
        read_onnx("file")
    assert onnx.FILE_NAME == "model.onnx"
