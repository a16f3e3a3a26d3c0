"""A run starts from a public network, which sets its architecture; contradictions are errors."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from public_repositories import CARD, SEGFORMER, segformer_tensors, smp_config, smp_tensors, write_repository
from torch_files import state_file

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError, WeightsError
from flaxseg.train.build import build
from flaxseg.train.parts.model import describe_model
from flaxseg.train.parts.public_model import with_public_network
from flaxseg.train.state import load_weights


@pytest.fixture(scope="module")
def fpn(tmp_path_factory):
    """Returns a folder with a network of three classes."""
    folder = tmp_path_factory.mktemp("fpn")
    card = CARD.format(license="cc-by-nc-4.0", dataset="")
    return write_repository(folder, smp_config("FPN", "resnet18"), smp_tensors("fpn", "resnet18"), card=card)


def config_of(folder, *overrides):
    own = ["model.options={}", f"model.pretrained={folder}", "model.accept_license=True"]
    return load_config("configs/shapes.py:tiny", [*own, *overrides])


def test_a_public_network_sets_name_and_options_and_its_heads_are_drawn_anew(fpn, capsys):
    config = config_of(fpn, "model.options.dropout=0.5")
    filled, found = with_public_network(config)
    assert (filled.model.name, filled.model.options.encoder, filled.model.options.merge) == ("fpn", "resnet18", "add")
    assert (filled.model.options.dropout, filled.model.options.mean) == (0.5, (123.675, 116.28, 103.53))
    assert config.model.name == "plain_unet" and found.name == str(fpn)
    assert with_public_network(filled)[0].to_dict() == filled.to_dict()
    run = build(config)
    loaded = load_weights(run)
    is_loaded = jax.tree.map(lambda leaf: isinstance(leaf, np.ndarray), loaded["params"])
    assert all(jax.tree.leaves((is_loaded["encoder"], is_loaded["decoder"])))
    assert run.model.num_classes != 3 and not any(jax.tree.leaves(is_loaded["head"]))
    printed = capsys.readouterr().err
    assert f"{fpn}: license of the weights: cc-by-nc-4.0\n" in printed
    assert f"{fpn}: the number of classes differs, so that these are initialized anew: head\n" in printed
    described = describe_model(filled, run.model, run.data.train)
    assert (described.source, described.license) == (fpn.name, "cc-by-nc-4.0")


CONTRADICTIONS = {
    "model.name=unet": r"config.model.name = 'unet': contradicts config.model.pretrained.* 'fpn'",
    "model.options.width=4": r"config.model.name = 'plain_unet': contradicts config.model.pretrained.* 'fpn'",
    "model.options.merge=cat": r"config.model.options.merge = 'cat': the network of .* has 'add'; leave it out",
}


@pytest.mark.parametrize("override", CONTRADICTIONS)
def test_contradictions_are_errors(fpn, override):
    name = ["model.name=fpn"] if ".merge" in override else []
    with pytest.raises(ConfigError, match=CONTRADICTIONS[override]):
        build(config_of(fpn, *name, override))


def test_a_non_commercial_license_has_to_be_accepted(fpn):
    with pytest.raises(WeightsError, match=r"is cc-by-nc-4.0, .*--config.model.accept_license=True"):
        build(config_of(fpn, "model.accept_license=False"))


def test_a_checkpoint_of_torchvision_sets_name_and_options(tmp_path):
    golden = np.load(Path(__file__).parents[1] / "models" / "golden_torchvision" / "lraspp_mobilenet_v3_large.npz")
    names, shapes = str(golden["names"]).split("\n"), json.loads(str(golden["shapes"]))
    path = tmp_path / "lraspp.pth"
    path.write_bytes(state_file({name: np.ones(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}))
    run = build(config_of(path, "model.accept_license=False"))
    assert (run.model.name, run.model.module.encoder_name) == ("lraspp", "mobilenet_v3_large")
    assert run.model.pretrained.license.startswith("bsd-3-clause (of torchvision")
    loaded = load_weights(run)["params"]
    assert (loaded["decoder"]["gate"]["kernel"] == 1).all()
    # The head of 21 classes is drawn anew.
    assert not isinstance(loaded["head"]["kernel"], np.ndarray)


def encoder_run(encoder, *overrides):
    own = ["model.name=unet", f"model.options.encoder={encoder}", "model.pretrained=imagenet", "log.images=0"]
    return build(load_config("configs/shapes.py:tiny", ["model.options={}", *own, *overrides]))


def test_a_run_records_the_license_of_its_encoders_public_weights():
    config = load_config("configs/shapes.py:tiny", ["model.options={}", "model.name=unet"])
    run = encoder_run("mit_b0")
    described = describe_model(config, run.model, run.data.train)
    assert described.source.startswith("hf:smp-hub/mit_b0.imagenet@9ce53d1")
    assert described.license.startswith("other (nvidia-source-code-license), https://github.com/NVlabs/SegFormer")
    weights = encoder_run("resnet18").model.pretrained
    assert weights.license == "see https://huggingface.co/smp-hub/resnet18.imagenet"


def test_the_license_of_an_encoders_weights_has_to_be_accepted(monkeypatch):
    with pytest.raises(
        WeightsError, match=r"^smp-hub/mit_b0.imagenet: .* other \(nvidia.*--config.model.accept_license"
    ):
        load_weights(encoder_run("mit_b0"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*Or set model\.pretrained='' to start from random"):
        load_weights(encoder_run("mit_b0", "model.accept_license=True"))


def test_a_segformer_of_transformers_keeps_its_head_for_as_many_classes(tmp_path):
    folder = write_repository(tmp_path, SEGFORMER, segformer_tensors())
    config = config_of(folder, "data.name=shapes")
    num_classes = build(config).model.num_classes
    labels = {str(index): f"class {index}" for index in range(num_classes)}
    tensors = segformer_tensors()
    for leaf in ("weight", "bias"):
        name = f"decode_head.classifier.{leaf}"
        tensors[name] = np.resize(tensors[name], (num_classes, *tensors[name].shape[1:]))
    write_repository(tmp_path, {**SEGFORMER, "id2label": labels}, tensors)
    run = build(config)
    assert run.model.module.encoder.epsilon == 1e-5 and not run.model.module.align_corners
    loaded = load_weights(run)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded))
    kernel = tensors["decode_head.classifier.weight"]
    np.testing.assert_array_equal(loaded["params"]["head"]["kernel"], kernel.transpose(2, 3, 1, 0))
