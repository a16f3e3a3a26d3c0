import dataclasses
import functools
import hashlib
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from flaxseg.errors import WeightsError
from flaxseg.models import plain_unet, unet
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.pretrained.load import _head_of, load_pretrained, put_arrays, put_tensors
from flaxseg.models.pretrained.torch_names import convert_tensors

ENCODER = "resnet18"


def network(**options):
    return unet(num_classes=2, encoder=ENCODER, **options)


@functools.cache
def variables_of(channels=3):
    """Returns a network's variables, all of which are 7."""
    init = functools.partial(network().init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), np.zeros((1, 32, 32, channels), np.float32))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 7, np.float32), dict(shapes))


@functools.cache
def torch_tensors(prefix=""):
    """Returns tensors under torchvision's names that fill the encoder, each with the values 0, 1, 2, ..."""
    flat = traverse_util.flatten_dict(variables_of(), sep="/")
    tensors = {}
    for path, value in flat.items():
        collection, part, *module, leaf = path.split("/")
        if part != "encoder":
            continue
        name = "/".join(module)
        for pattern, replacement in (
            (r"stem/conv", "conv1"),
            (r"stem/norm", "bn1"),
            (r"layer(\d)_block(\d)/downsample/conv", r"layer\1.\2.downsample.0"),
            (r"layer(\d)_block(\d)/downsample/norm", r"layer\1.\2.downsample.1"),
            (r"layer(\d)_block(\d)/conv(\d)/conv", r"layer\1.\2.conv\3"),
            (r"layer(\d)_block(\d)/conv(\d)/norm", r"layer\1.\2.bn\3"),
        ):
            name = re.sub(rf"^{pattern}$", replacement, name)
        shape = value.shape if value.ndim == 1 else tuple(value.shape[axis] for axis in (3, 2, 0, 1))
        leaf = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
        tensors[f"{prefix}{name}.{leaf}"] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        if collection == "batch_stats":
            tensors[f"{prefix}{name}.num_batches_tracked"] = np.zeros((), np.int64)
    return tensors


def put(tensors, *, channels=3, partial=False):
    found = put_tensors(variables_of(channels), network(), tensors, name="w.pth", partial=partial)
    return traverse_util.flatten_dict(found, sep="/")


@pytest.mark.parametrize("classifier", [{}, {"fc.weight": np.ones((1000, 512)), "fc.bias": np.ones(1000)}])
def test_an_encoders_file_fills_the_encoder_and_nothing_else(classifier):
    found = put(torch_tensors() | classifier)
    kernel = found["params/encoder/layer2_block0/downsample/conv/kernel"]
    np.testing.assert_array_equal(kernel[0, 0], np.arange(128 * 64).reshape(128, 64).T)
    stem = found["params/encoder/stem/conv/kernel"]
    # [kh, kw, in, out] of [out, in, kh, kw].
    assert stem[1, 2, 1, 3] == 3 * 3 * 49 + 1 * 49 + 1 * 7 + 2
    np.testing.assert_array_equal(found["batch_stats/encoder/stem/norm/var"], np.arange(64))
    assert (found["params/head/kernel"] == 7).all()
    assert all((value != 7).any() for path, value in found.items() if "/encoder/" in path)


def test_a_whole_encoders_file_fills_a_shallower_encoder():
    shallow = network(encoder_depth=3, decoder_channels=(8, 8, 8))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(shallow.init, train=False), jax.random.key(0), image)
    weights = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), dict(shapes))
    found = put_tensors(weights, shallow, torch_tensors(), name="w.pth", partial=False)
    last = found["params"]["encoder"]["layer2_block1"]["conv2"]["norm"]
    np.testing.assert_array_equal(last["bias"], np.arange(128))
    assert "layer3_block0" not in found["params"]["encoder"]
    strange = torch_tensors() | {"layer3.9.conv1.weight": np.zeros((1, 1, 1, 1), np.float32)}
    with pytest.raises(WeightsError, match=r"not in the network: 1 \(params/encoder/layer3_block9/conv1/conv/kernel"):
        put_tensors(weights, shallow, strange, name="w.pth", partial=False)


@pytest.mark.parametrize("prefix", ["model.", "encoder.", "encoder.model.", "module.encoder."])
def test_prefixes_of_wrappers_are_known(prefix):
    found = put(torch_tensors(prefix))
    assert found["params/encoder/stem/conv/kernel"][0, 0, 0, 1] == 3 * 49


def test_the_first_convolution_is_adapted_to_other_channels():
    stem = torch_tensors()["conv1.weight"].transpose(2, 3, 1, 0)
    path = "params/encoder/stem/conv/kernel"
    np.testing.assert_allclose(put(torch_tensors(), channels=1)[path], stem.sum(2, keepdims=True))
    five = put(torch_tensors(), channels=5)[path]
    np.testing.assert_allclose(five, stem[:, :, [0, 1, 2, 0, 1]] * 0.6, rtol=1e-6)


def test_mismatches_are_listed_and_matches_loaded_only_on_request():
    tensors = dict(torch_tensors())
    del tensors["layer4.1.conv2.weight"]
    tensors["layer9.0.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    tensors["bn1.bias"] = np.zeros(63, np.float32)
    with pytest.raises(WeightsError) as raised:
        put(tensors)
    message = str(raised.value)
    assert message.startswith("w.pth: these weights do not belong to this network")
    assert "but not in the file: 1 (params/encoder/layer4_block1/conv2/conv/kernel (3, 3, 512, 512))" in message
    assert "but not in the network: 1 (params/encoder/layer9_block0/conv1/conv/kernel (1, 1, 1, 1))" in message
    assert "params/encoder/stem/norm/bias (63,) in the file, (64,) in the network" in message
    assert "partial=True loads what fits" in message
    found = put(tensors, partial=True)
    assert (found["params/encoder/layer4_block1/conv2/conv/kernel"] == 7).all()
    assert (found["params/encoder/stem/norm/bias"] == 7).all()
    assert found["params/encoder/stem/norm/scale"][1] == 1


def test_weights_without_any_match_are_refused_even_in_part():
    with pytest.raises(
        WeightsError, match=r"0 of its arrays are in the file(.|\n)*choose the network that the weights belong to"
    ):
        put({"visual.proj": np.zeros((4, 4), np.float32)}, partial=True)


def test_the_error_for_a_network_without_encoder_names_an_alternative(tmp_path):
    safetensors.numpy.save_file({"conv1.weight": np.zeros((1, 1, 3, 3), np.float32)}, tmp_path / "w.safetensors")
    for source in (str(tmp_path / "w.safetensors"), "imagenet"):
        with pytest.raises(WeightsError, match="UNet has no encoder that these weights could be loaded into"):
            load_pretrained({}, plain_unet(num_classes=2), source)


@pytest.mark.parametrize("separator", ["/", "."])
def test_a_file_of_flaxsegs_own_arrays_fills_any_network(tmp_path, separator):
    model = plain_unet(num_classes=2, width=4, depth=1)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    flat = traverse_util.flatten_dict(dict(shapes), sep=separator)
    arrays = {path: np.full(leaf.shape, number, np.float32) for number, (path, leaf) in enumerate(sorted(flat.items()))}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    found = load_pretrained(shapes, model, str(tmp_path / "w.safetensors"))
    assert {
        path: value[..., 0].flat[0] for path, value in traverse_util.flatten_dict(found, sep=separator).items()
    } == {path: number for number, path in enumerate(sorted(flat))}
    del arrays[next(iter(arrays))]
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="in the network, but not in the file: 1"):
        load_pretrained(shapes, model, str(tmp_path / "w.safetensors"))


def test_arrays_by_path_can_belong_to_a_part_of_the_network():
    given = {"params/head/bias": np.ones(2, np.float16)}
    found = put_arrays(variables_of(), given, name="x", partial=True)
    assert found["params"]["head"]["bias"].dtype == np.float32
    assert found["params"]["head"]["bias"].tolist() == [1, 1]


def test_kernels_of_transposed_convolutions_are_flipped_and_transposed():
    tensor = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)  # in, out, rows, columns
    found, unknown = convert_tensors({"up.weight": tensor, "gamma": np.ones(3)}, [("up", "up/conv:transposed")])
    assert found["params/up/conv/kernel"][0, 1, 1, 2] == tensor[1, 2, 3, 2]
    assert unknown == {"gamma": (3,)}


def test_a_file_is_read_verified_and_loaded(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(torch_tensors(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_pretrained(variables_of(), network(), str(path), sha256=digest[:16])
    assert found["params"]["encoder"]["stem"]["conv"]["kernel"][0, 0, 0, 1] == 3 * 49
    with pytest.raises(WeightsError, match="SHA-256"):
        load_pretrained(variables_of(), network(), str(path), sha256="0" * 16)


def test_public_weights_come_from_the_revision_in_the_table(tmp_path, monkeypatch, capsys):
    """They are read from a cache of the hub, without a network."""
    public = ENCODERS[ENCODER].pretrained
    snapshot = tmp_path / f"models--{public.repository.replace('/', '--')}" / "snapshots" / public.revision
    snapshot.mkdir(parents=True)
    safetensors.numpy.save_file(torch_tensors() | {"fc.bias": np.zeros(1000)}, snapshot / public.filename)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = load_pretrained(variables_of(), network(), "imagenet")
    assert found["params"]["encoder"]["stem"]["conv"]["kernel"][0, 0, 0, 1] == 3 * 49
    assert found["params"]["head"]["kernel"][0, 0, 0, 0] == 7
    assert f"{public.repository}: license of the weights: see https://hugg" in capsys.readouterr().err


def test_an_encoder_without_public_weights_is_named(monkeypatch):
    monkeypatch.setitem(ENCODERS, ENCODER, dataclasses.replace(ENCODERS[ENCODER], pretrained=None))
    with pytest.raises(WeightsError, match="no public weights of encoder resnet18; did you mean 'resnet"):
        load_pretrained(variables_of(), network(), "imagenet")


@pytest.mark.parametrize("prefix", ["model.encoder.", "_orig_mod.encoder.", "module._orig_mod.encoder.model."])
def test_prefixes_of_lightning_and_compiled_modules_are_known(prefix):
    assert put(torch_tensors(prefix))["params/encoder/stem/conv/kernel"][0, 0, 0, 1] == 3 * 49


@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.", "model._orig_mod."])
def test_a_whole_network_of_a_lightning_module_fills_the_network(prefix):
    names = {"segmentation_head.0.weight": np.ones((2, 16, 3, 3), np.float32), "segmentation_head.0.bias": np.ones(2)}
    tensors = torch_tensors("encoder.") | names | {"mean": np.zeros((1, 3, 1, 1)), "std": np.ones((1, 3, 1, 1))}
    found = put({f"{prefix}{name}": value for name, value in tensors.items()}, partial=True)
    assert (found["params/head/kernel"] == 1).all() and (found["params/encoder/stem/norm/bias"] != 7).any()
    missing = "in the network, but not in the file"
    with pytest.raises(WeightsError, match=missing) as raised:
        put({f"{prefix}{name}": value for name, value in tensors.items()})
    assert "in the file, but not in the network" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("params/head/kernel", "head"),
        ("batch_stats/auxiliary_block/norm/mean", "auxiliary_block"),
        ("params/decoder/queries/class_head/bias", "decoder/queries/class_head"),
        ("params/decoder/fuse/conv/kernel", ""),
        ("params/kernel", ""),
    ],
)
def test_heads_depend_on_the_number_of_classes(path, head):
    assert _head_of(path) == head
