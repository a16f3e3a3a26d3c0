"""ONNX files compute what the network does; skipped where the extra `onnx` is not installed."""

import builtins

import jax
import numpy as np
import pytest
from exported_networks import trained
from flax import traverse_util

from flaxseg.deploy import onnx
from flaxseg.deploy.onnx import onnx_program, read_onnx
from flaxseg.deploy.onnx_sizes import symbolic_sizes
from flaxseg.deploy.program import Sizes, make_program
from flaxseg.deploy.weights import stored_weights
from flaxseg.errors import ExportError

needs_converter = pytest.mark.usefixtures("converter")


@pytest.fixture(scope="module")
def converter():
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("jax2onnx", reason="the extra `onnx` is not installed", exc_type=ImportError)


def written(folder, sizes, *, output="logits", weights="float32"):
    """Returns the program in a file of a plain U-Net with stride 4, and the program itself."""
    network = trained("plain_unet", width=2, depth=2)
    variables = stored_weights(network.variables, weights)
    program = make_program(network.model, variables, normalized=True, output=output)
    (folder / "file").write_bytes(onnx_program(program, channels=3, sizes=sizes, output=output))
    return read_onnx(folder / "file"), jax.jit(program)


def assert_same(call, program, shape):
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    found, expected = call(image), np.asarray(program(image))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@needs_converter
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["logits", "probabilities", "classes"])
def test_a_file_serves_batches_and_images_of_all_sizes(tmp_path, output):
    call, program = written(tmp_path, Sizes(4, 4), output=output)
    for shape in ((1, 8, 12, 3), (3, 20, 4, 3)):
        assert_same(call, program, shape)
    for size in ((6, 8), (8, 6), (10, 10)):
        with pytest.raises(ExportError, match=r"file: ONNX Runtime cannot run it on \(1, .*; give images of the size"):
            call(np.zeros((1, *size, 3)))


@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_the_input_and_output_of_a_file_are_images(tmp_path):
    onnx_package = pytest.importorskip("onnx")
    written(tmp_path, Sizes(4, 8))
    model = onnx_package.load(tmp_path / "file")
    onnx_package.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["batch", "height", "width", 3], "logits": ["batch", "height", "width", 4]}


@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_a_fixed_size(tmp_path):
    call, program = written(tmp_path, Sizes(4, 8, fixed=(8, 12)))
    for batch in (1, 3):
        assert_same(call, program, (batch, 8, 12, 3))
    with pytest.raises(ExportError, match="cannot run it on"):
        call(np.zeros((1, 12, 12, 3)))


@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_weights_of_8_bit_integers_stay_integers_in_the_file(tmp_path):
    call, program = written(tmp_path, Sizes(4, 4), weights="int8")
    assert_same(call, program, (2, 8, 12, 3))
    model = pytest.importorskip("onnx").load(tmp_path / "file")
    small = [each for each in model.graph.initializer if each.data_type == 3]
    network = trained("plain_unet", width=2, depth=2)
    flat = traverse_util.flatten_dict(network.variables["params"])
    assert sum(np.prod(each.dims) for each in small) == sum(v.size for k, v in flat.items() if k[-1] == "kernel")


@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_converted_is_named():
    fixed, free = Sizes(1, 8, fixed=(8, 8)), Sizes(8, 8)
    with pytest.raises(ExportError, match=r"jax2onnx cannot convert this network \(.*use --format=stablehlo"):
        onnx_program(jax.lax.linalg.cholesky, channels=8, sizes=fixed, output="logits")
    with pytest.raises(ExportError, match=r"jax2onnx cannot convert this network for images of any size \("):
        onnx_program(lambda x: x if x.shape[1] > 9 else -x, channels=8, sizes=free, output="logits")


@needs_converter
def test_the_converter_is_as_it_was_after_symbolic_sizes():
    from jax2onnx.plugins.flax.linen.max_pool import MaxPoolPlugin

    before = vars(MaxPoolPlugin)["_compute_output_dim"]
    with symbolic_sizes():
        assert MaxPoolPlugin._compute_output_dim(7, 3, 2, "VALID") == 3
        assert vars(MaxPoolPlugin)["_compute_output_dim"] is not before
    assert vars(MaxPoolPlugin)["_compute_output_dim"] is before


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
        onnx_program(lambda x: x, channels=1, sizes=Sizes(1, 1), output="logits")
    with pytest.raises(ExportError, match=r"ONNX Runtime is not installed; pip install 'flaxseg\[onnx\]'"):
        read_onnx("file")
    assert onnx.FILE_NAME == "model.onnx"
