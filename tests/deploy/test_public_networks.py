"""Networks in the layouts of other libraries load from a folder and from a hub; every failure is one error."""

import functools
import json
import pickle
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from compare import TOLERANCE, difference, image
from exported_networks import trained
from huggingface_hub import constants
from public_repositories import (
    CARD,
    COMMIT,
    GOLDEN,
    PREPROCESSOR,
    SEGFORMER,
    segformer_tensors,
    smp_config,
    smp_tensors,
    write_repository,
)
from torch_files import state_file

import flaxseg
from flaxseg.deploy.card import model_card
from flaxseg.deploy.safetensors import write_weights
from flaxseg.deploy.saved import read_model
from flaxseg.deploy.trained import TrainingRecord
from flaxseg.errors import ArgumentError, WeightsError
from flaxseg.models.pretrained.files import read_weights

pytest_plugins = ["hub_server"]

SIZE = (33, 47)


@pytest.fixture(scope="module")
def fpn(tmp_path_factory):
    """Returns a folder in the layout of segmentation_models_pytorch."""
    folder = tmp_path_factory.mktemp("fpn")
    card = CARD.format(license="mit", dataset="lab data")
    return write_repository(folder, smp_config("FPN", "resnet18"), smp_tensors("fpn", "resnet18"), card=card)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    """Returns a folder in the layout of transformers."""
    folder = tmp_path_factory.mktemp("segformer")
    files = {"preprocessor_config.json": PREPROCESSOR}
    card = "---\nlicense: other\nlicense_name: lab-research\nlicense_link: https://lab.example/license\n---\n"
    return write_repository(folder, SEGFORMER, segformer_tensors(), card=card, files=files)


def serve(hub, name, folder):
    hub.files[name] = {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, dict(found.variables), dict(expected.variables))
    assert found.model == expected.model


@pytest.mark.long
def test_a_folder_computes_the_logits_of_its_own_library(fpn, capsys):
    saved = flaxseg.load(fpn).members[0]
    logits = jax.jit(lambda x: saved.model.apply(saved.variables, x, train=False))(image(SIZE))
    golden = np.load(GOLDEN / "fpn-resnet18.npz")["logits_33x47"]
    assert difference(np.asarray(logits)[:, ::6, ::6], golden) < TOLERANCE
    described = saved.description
    assert (described.resize, described.mean, described.class_names) == (
        "keep",
        (123.675, 116.28, 103.53),
        ("0", "1", "2"),
    )
    assert (described.source, described.license, saved.folder) == (fpn.name, "mit", None)
    printed = capsys.readouterr().err
    assert f"{fpn}: license of the weights: mit\n" in printed
    assert "states no normalization of images; it is assumed to be that of encoder resnet18" in printed


def test_class_names_normalization_and_size_are_those_of_the_files(segformer, capsys):
    described = read_model(segformer, accept_license=True).description
    assert described.class_names == ("road", "building", "sky")
    np.testing.assert_allclose(described.mean, [127.5, 102, 76.5])
    np.testing.assert_allclose(described.std, [51, 51, 25.5])
    assert (described.image_size, described.resize) == ((64, 96), "stretch")
    assert described.license == "other (lab-research), https://lab.example/license"
    assert "contain 0 for ignored pixels and k + 1 for class k" in capsys.readouterr().err


def test_a_custom_license_has_to_be_accepted(segformer):
    with pytest.raises(
        WeightsError, match=r"the license of these weights is other \(lab-research\), https.*accept_lic"
    ):
        flaxseg.load(segformer)


def test_a_name_is_downloaded_at_one_commit_and_once(hub, fpn, monkeypatch):
    serve(hub, "lab/fpn", fpn)
    found = read_model("hf:lab/fpn")
    assert_same(found, read_model(fpn))
    assert found.name == found.description.source == f"hf:lab/fpn@{COMMIT}"
    assert hub.asked.count(("GET", "model.safetensors")) == 1
    hub.asked.clear()
    assert_same(read_model(f"hf:lab/fpn@{COMMIT}"), found)
    assert not [name for method, name in hub.asked if method == "GET"]
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert read_model("hf:lab/fpn").name == found.name
    assert not hub.asked


def test_a_file_that_is_not_the_one_that_the_hub_records_is_refused(hub, fpn):
    serve(hub, "lab/fpn", fpn)
    hub.digests["model.safetensors"] = "ab" * 32
    with pytest.raises(WeightsError, match=r"its SHA-256 is [0-9a-f]{64}, but abab[0-9a-f]* is expected"):
        read_model("hf:lab/fpn")


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture(scope="module")
def shards(tmp_path_factory, fpn):
    """Returns the network of `fpn` in two files of weights, in half precision."""
    folder = shutil.copytree(fpn, tmp_path_factory.mktemp("shards") / "fpn")
    tensors = read_weights(fpn / "model.safetensors")
    names = sorted(tensors)
    places = {name: SHARDS[number % 2] for number, name in enumerate(names)}
    for filename in SHARDS:
        part = {name: tensors[name] for name in names if places[name] == filename}
        kinds = {name: np.float16 if value.dtype == np.float32 else value.dtype for name, value in part.items()}
        safetensors.numpy.save_file({name: part[name].astype(kinds[name]) for name in part}, folder / filename)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_weights_in_several_files_are_those_of_one(hub, fpn, shards):
    whole = read_model(fpn)
    found = read_model(shards)
    halves = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), dict(whole.variables))
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), dict(found.variables), halves)
    serve(hub, "lab/shards", shards)
    assert_same(read_model("hf:lab/shards"), found)
    hub.digests[SHARDS[1]] = "ab" * 32
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(WeightsError, match=rf"{SHARDS[1]}: its SHA-256 is [0-9a-f]{{64}}, but abab"):
        read_model("hf:lab/shards")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"weight_map": {"a": "../x.safetensors"}},
            "weight_map = {'a': '../x.safetensors'}: must name the file of each",
        ),
        ({"weight_map": {"a": "/x.safetensors"}}, "must name the file of each tensor, without a folder"),
        ({"weight_map": {"a": "x.py"}}, "must name the file of each tensor, without a folder"),
        ({"weight_map": ["a"]}, "must name the file of each tensor, without a folder"),
        ({"weight_map": {"a": "x.safetensors"}}, "has no file x.safetensors, which"),
        ({"weight_map": {"a": SHARDS[0]}}, f"{SHARDS[0]} has other tensors than"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, shards, change, message):
    folder = shutil.copytree(shards, tmp_path / "copy")
    (folder / "model.safetensors.index.json").write_text(json.dumps(change))
    with pytest.raises(WeightsError) as caught:
        read_model(folder)
    assert message in str(caught.value)


def test_a_digest_of_one_file_is_refused_for_several(shards):
    variables = read_model(shards).variables
    with pytest.raises(WeightsError, match="sha256 = 'abcdef01' is that of one file, but the weights are in several"):
        flaxseg.load_pretrained(variables, read_model(shards).model, str(shards), sha256="abcdef01")


FAILURES = {
    "hf:lab/none": "has no such repository, or it is private; check the name, or set HF_TOKEN",
    "hf:lab/fpn@v9": "has no such revision",
    "hf:lab/gated401": "asks its users to log in and accept its terms; do so on its page, and set HF_TOKEN",
    "hf:lab/gated403": "asks its users to log in and accept its terms; do so on its page, and set HF_TOKEN",
    "hf:lab/empty": "has neither a config.json of segmentation_models_pytorch or transformers nor a model.json",
    "hf:lab/noweights": "contains no weights that can be read (model.safetensors, pytorch_model.bin, ",
    "hf:fpn": "is not a repository of the Hugging Face hub; write hf:OWNER/NAME",
    "hf:lab/fpn@": "is not a repository of the Hugging Face hub",
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_is_one_message(hub, fpn, name):
    serve(hub, "lab/fpn", fpn)
    hub.files |= {"lab/empty": {}, "lab/noweights": {"config.json": (fpn / "config.json").read_bytes()}}
    hub.gated |= {"lab/gated401": 401, "lab/gated403": 403}
    with pytest.raises(WeightsError) as caught:
        flaxseg.load(name)
    assert FAILURES[name] in str(caught.value)


def test_offline_a_repository_that_is_not_cached_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"config.json of lab/fpn .* is not in the cache .*HF_HUB_OFFLINE forbids"):
        read_model("hf:lab/fpn")


def test_pytorch_weights_are_read_without_running_their_code(hub, fpn):
    serve(hub, "lab/fpn", fpn)
    del hub.files["lab/fpn"]["model.safetensors"]
    hub.files["lab/fpn"]["pytorch_model.bin"] = state_file(smp_tensors("fpn", "resnet18"))
    assert_same(read_model("hf:lab/fpn"), read_model(fpn))


def test_a_pickle_that_runs_code_is_refused(hub, fpn, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    serve(hub, "lab/fpn", fpn)
    del hub.files["lab/fpn"]["model.safetensors"]
    hub.files["lab/fpn"]["pytorch_model.bin"] = pickle.dumps(Evil(), protocol=2)
    with pytest.raises(WeightsError, match=r"names .*open, which is not needed for tensors"):
        read_model("hf:lab/fpn")
    assert not (tmp_path / "owned").exists()


@pytest.fixture
def exported(tmp_path):
    """Returns the network and the folder of an export of this library."""
    network = trained("plain_unet", width=2, depth=1)
    write_weights(tmp_path, network.variables, network.description)
    return network, tmp_path


def test_an_exported_folder_is_loaded_from_the_hub(hub, exported):
    network, folder = exported
    serve(hub, "lab/own", folder)
    found = read_model("hf:lab/own")
    assert_same(found, network)
    assert (found.description.source, found.description.license) == (f"hf:lab/own@{COMMIT}", "not stated")


def test_a_downloaded_description_cannot_name_code(hub, exported):
    folder = exported[1]
    text = (folder / "model.json").read_text().replace('"plain_unet"', '"antigravity:fly"')
    (folder / "model.json").write_text(text)
    serve(hub, "lab/own", folder)
    with pytest.raises(WeightsError, match=r"its network is 'antigravity:fly', which names code"):
        read_model("hf:lab/own")


def test_tensors_of_another_network_are_named(fpn, tmp_path):
    folder = shutil.copytree(fpn, tmp_path / "copy")
    write_repository(folder, smp_config("FPN", "resnet18", decoder_pyramid_channels=64), None)
    with pytest.raises(WeightsError, match=r"these weights do not belong to this network"):
        read_model(folder)


def test_a_public_network_has_no_steps(fpn):
    with pytest.raises(ArgumentError, match=r"step = 3: .* has no checkpoints"):
        read_model(fpn, step=3)


def test_the_card_states_the_source_and_its_license(hub, segformer):
    serve(hub, "lab/seg", segformer)
    described = read_model("hf:lab/seg", accept_license=True).description
    card = model_card(described, TrainingRecord(), {"formats": {}, "compared_on": "", "weights": "float32"})
    front, text = card.removeprefix("---\n").split("\n---\n")
    assert {"license: other", "base_model: lab/seg"} <= set(front.splitlines())
    assert f"the weights of hf:lab/seg@{COMMIT} (license: other (lab-research), https://lab.example/license)." in text
