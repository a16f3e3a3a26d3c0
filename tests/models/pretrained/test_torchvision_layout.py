"""Files of torchvision's segmentation networks are recognized, and compute what torchvision computes."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy
from compare import TOLERANCE, difference, tensors_of
from flax import traverse_util
from references import bright_image
from representatives import representatives
from torch_files import state_file
from torchvision_cases import GOLDEN, IMAGE_SIZES

import flaxseg
from flaxseg.data.datasets.voc import CLASS_NAMES
from flaxseg.deploy.saved import read_model
from flaxseg.errors import ArgumentError, WeightsError
from flaxseg.models import build_model
from flaxseg.models.pretrained.public_source import is_public, open_public

FOLDER = Path(__file__).parents[1] / "golden_torchvision"


@functools.cache
def golden(case):
    return np.load(FOLDER / f"{case}.npz")


@functools.cache
def tensors(case):
    return tensors_of(golden(case), "mobilenetv3")


def write(path, case, *, prefix="", wrapper="", changed=None):
    """Writes a file as torch.save() would, with all tensors 0 but those of the last argument."""
    shapes = {name: value.shape for name, value in tensors(case).items()}
    given = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | (changed or {})
    path.write_bytes(state_file({prefix + name: value for name, value in given.items()}, wrapper=wrapper))
    return path


@pytest.mark.long
@pytest.mark.parametrize("case", GOLDEN)
def test_a_file_computes_the_logits_of_torchvision(tmp_path, case):
    (tmp_path / "network.pth").write_bytes(state_file(tensors(case)))
    saved = read_model(tmp_path / "network.pth")
    logits = jax.jit(lambda x: saved.model.apply(saved.variables, x, train=False))(bright_image(IMAGE_SIZES[1]))
    assert difference(np.asarray(logits)[:, ::8, ::8], golden(case)["logits"]) < TOLERANCE


def test_every_golden_file_is_one_of_a_case():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(GOLDEN)


EXPECTED = {
    "fcn_resnet50": (
        "fcn",
        {"encoder": "resnet50", "output_stride": 8, "auxiliary_head": True, "auxiliary_channels": 256},
    ),
    "deeplabv3_mobilenet_v3_large": ("deeplabv3", {"encoder": "mobilenet_v3_large", "output_stride": 16}),
    "lraspp_mobilenet_v3_large": ("lraspp", {"encoder": "mobilenet_v3_large", "output_stride": 16}),
}


@pytest.mark.parametrize("case", representatives(GOLDEN, GOLDEN[1:]))
def test_every_tensor_has_a_place(tmp_path, case):
    public = open_public(write(tmp_path / "network.pth", case))
    name, options = EXPECTED[case]
    assert public.layout.name == name
    assert options.items() <= public.layout.options.items() and public.layout.options["align_corners"] is False
    model = build_model(name, num_classes=21, **public.layout.options)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32),
    )
    arrays, unknown = public.arrays(model)
    wanted = traverse_util.flatten_dict({key: shapes[key] for key in ("params", "batch_stats")}, sep="/")
    assert not unknown
    assert {path: value.shape for path, value in arrays.items()} == {path: each.shape for path, each in wanted.items()}


def test_classes_normalization_and_license_are_those_that_torchvision_states(tmp_path, capsys):
    case = "lraspp_mobilenet_v3_large"
    described = read_model(write(tmp_path / "lraspp_mobilenet_v3_large-d234d4ea.pth", case)).description
    assert described.class_names == tuple(CLASS_NAMES) and described.palette[15] == (192, 128, 128)
    assert (described.mean, described.std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert described.license.startswith("bsd-3-clause (of torchvision; for weights, it refers to the terms of their")
    assert (described.resize, described.source) == ("keep", "lraspp_mobilenet_v3_large-d234d4ea.pth")
    assert "its 21 classes are assumed to be those of PASCAL VOC" in capsys.readouterr().err


def test_other_classes_have_numbers_and_no_license(tmp_path, capsys):
    kernels = {"low": (2, 40, 1, 1), "high": (2, 128, 1, 1)}
    given = {f"classifier.{part}_classifier.weight": np.zeros(shape, np.float32) for part, shape in kernels.items()}
    given |= {f"classifier.{part}_classifier.bias": np.zeros(2, np.float32) for part in kernels}
    path = write(tmp_path / "own.pth", "lraspp_mobilenet_v3_large", changed=given)
    described = read_model(path).description
    assert (described.class_names, described.license) == (("0", "1"), "not stated")
    assert "PASCAL" not in capsys.readouterr().err


def test_both_heads_of_lraspp_are_one(tmp_path):
    case = "lraspp_mobilenet_v3_large"
    names = [f"classifier.{part}_classifier.{leaf}" for leaf in ("weight", "bias") for part in ("low", "high")]
    drawn = {name: tensors(case)[name] for name in names}
    head = read_model(write(tmp_path / "network.pth", case, changed=drawn)).variables["params"]["head"]
    low, high, low_bias, high_bias = drawn.values()
    np.testing.assert_array_equal(head["kernel"][0, 0, :40], low[:, :, 0, 0].T)
    np.testing.assert_array_equal(head["kernel"][0, 0, 40:], high[:, :, 0, 0].T)
    np.testing.assert_array_equal(head["bias"], low_bias + high_bias)


def test_wrapped_checkpoints_and_safetensors_are_recognized(tmp_path):
    case = "deeplabv3_mobilenet_v3_large"
    assert is_public(write(tmp_path / "training.pth", case, wrapper="model"))
    assert is_public(write(tmp_path / "parallel.pth", case, prefix="module."))
    names = read_model(tmp_path / "parallel.pth").variables["params"].keys()
    assert names == read_model(tmp_path / "training.pth").variables["params"].keys() == {"encoder", "decoder", "head"}
    safetensors.numpy.save_file(
        {name: np.zeros(value.shape, np.float16) for name, value in tensors(case).items()}, tmp_path / "w.safetensors"
    )
    assert read_model(tmp_path / "w.safetensors").description.name == "deeplabv3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: state_file({"a.weight": np.zeros(1, np.float32)}), "there is no model.json beside it"),
        (lambda: state_file(tensors(GOLDEN[2]))[:-100], "cannot be read"),
        (lambda: b"\x80\x02cos\nsystem\n(X\x01\x00\x00\x00xtR.", "names os.system, which is not needed for tensors"),
    ],
    ids=["another network", "truncated", "code"],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "network.pth"
    path.write_bytes(content())
    assert not is_public(path)
    with pytest.raises(WeightsError, match=message):
        flaxseg.load(path)


def test_another_encoder_is_named(tmp_path):
    shapes = {"backbone.conv1.weight": (64, 3, 7, 7), "backbone.layer3.0.conv1.weight": (1,)}
    shapes |= {"classifier.0.weight": (1,), "classifier.4.weight": (21, 1)}
    path = tmp_path / "network.pth"
    path.write_bytes(state_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}))
    with pytest.raises(WeightsError, match=r"its encoder is none of those of torchvision's fcn networks \(resnet50"):
        flaxseg.load(path)


def test_the_first_dilated_block_of_torchvisions_resnets_keeps_the_previous_dilation():
    def dilations(**options):
        found = []

        def record(call, args, kwargs, context):
            if context.module.name == "conv2" and hasattr(context.module, "dilation"):
                found.append(context.module.dilation)
            return call(*args, **kwargs)

        model = build_model("fcn", num_classes=2, encoder="resnet50", output_stride=8, **options)
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
        with nn.intercept_methods(record):
            jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
        return found[7:]

    assert dilations(late_dilation=True) == [1, 2, 2, 2, 2, 2, 2, 4, 4]
    assert dilations() == [2] * 6 + [4] * 3
    with pytest.raises(ArgumentError, match="late_dilation = True: encoder vgg11 has no such option"):
        build_model("unet", num_classes=2, encoder="vgg11", late_dilation=True)
