"""The commands from a public network to an export: train from it, resume, evaluate, export."""

import importlib.util
import json
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from public_repositories import CARD, SEGFORMER, segformer_tensors, smp_config, write_repository
from references import tensor

from flaxseg import evaluate, export, main
from flaxseg.deploy.saved import read_model

STEPS = ("log.images=0", "log.every=1", "mesh.data=1", "optimizer.schedule=constant", "optimizer.warmup_steps=0")
FORMAT = "onnx" if importlib.util.find_spec("jax2onnx") else "stablehlo"


def small_unet_tensors(num_classes):
    """Returns the tensors of segmentation_models_pytorch's U-Net on the encoder of `small_encoder`."""
    kernels = {f"encoder.layer{i}": (width, given) for i, (given, width) in enumerate([(3, 4), (4, 6), (6, 8)], 1)}
    kernels |= {"decoder.blocks.0.conv1": (8, 8 + 6), "decoder.blocks.0.conv2": (8, 8)}
    kernels |= {"decoder.blocks.1.conv1": (6, 8 + 4), "decoder.blocks.1.conv2": (6, 6)}
    kernels |= {"decoder.blocks.2.conv1": (4, 6), "decoder.blocks.2.conv2": (4, 4)}
    shapes = {f"{name}.0.weight": (*shape, 3, 3) for name, shape in kernels.items()}
    for name, (width, _) in kernels.items():
        shapes |= {f"{name}.1.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"segmentation_head.0.weight": (num_classes, 4, 3, 3), "segmentation_head.0.bias": (num_classes,)}
    return {name: tensor(name, shape) for name, shape in shapes.items()}


@pytest.fixture
def small_unet(tmp_path, small_encoder):
    """Returns a folder in the layout of segmentation_models_pytorch with a network of three classes."""
    config = smp_config("Unet", small_encoder, encoder_depth=3, decoder_channels=[8, 6, 4])
    card = CARD.format(license="cc-by-nc-4.0", dataset="")
    return write_repository(tmp_path / "unet", config, small_unet_tensors(3), card=card)


def train(config, folder, workdir, *overrides):
    """Runs the command that trains from a public network, and returns its exit status."""
    given = (f"model.pretrained={folder}", "model.accept_license=True", *STEPS, *overrides)
    return main.main([f"--config={config}", f"--workdir={workdir}", *(f"--config.{each}" for each in given)])


def checkpoint(workdir, step):
    """Returns all arrays of a checkpoint."""
    with warnings.catch_warnings():
        # Arrays are restored as they were placed when they were saved.
        warnings.simplefilter("ignore")
        return ocp.StandardCheckpointer().restore(workdir.absolute() / "checkpoints" / str(step) / "state")


def scores_of(path):
    """Returns the scores in a file that `evaluate` wrote."""
    return json.loads(path.read_text())["scores"]


def assert_resumes_bit_for_bit(config, folder, tmp_path, *overrides):
    """Trains for two steps at once, and for one step and then another, in `whole` and in `parts`."""
    assert train(config, folder, tmp_path / "whole", *overrides, "train.steps=2") == 0
    for steps in (1, 2):
        assert train(config, folder, tmp_path / "parts", *overrides, f"train.steps={steps}") == 0
    whole, parts = (checkpoint(tmp_path / name, 2) for name in ("whole", "parts"))
    assert len(jax.tree.leaves(whole)) > 2 * len(jax.tree.leaves(whole["params"]))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


@pytest.mark.long
def test_a_public_network_is_fine_tuned_resumed_evaluated_and_exported(small_unet, tmp_path, capsys):
    tiny = ("model.options={}", "data.options.size=(16,16)", "data.image_size=(16,16)", "data.options.count=8")
    assert_resumes_bit_for_bit("configs/shapes.py:tiny", small_unet, tmp_path, *tiny)
    printed = capsys.readouterr().err
    assert f"{small_unet}: license of the weights: cc-by-nc-4.0\n" in printed
    assert f"{small_unet}: the number of classes differs, so that these are initialized anew: head\n" in printed
    assert "decoder 18 of 18, encoder 9 of 9, head 0 of 2" in printed
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["model"]["name"] == "unet"
    described = read_model(tmp_path / "parts").description
    assert (described.source, described.license, described.num_classes) == (small_unet.name, "cc-by-nc-4.0", 5)

    assert evaluate.main([str(tmp_path / "parts"), f"--json={tmp_path}/run.json"]) == 0
    assert (
        export.main([f"--model={tmp_path}/parts", f"--output={tmp_path}/out", f"--format={FORMAT}", "--images=2"]) == 0
    )
    shapes = [f"--config.{each}" for each in tiny if each.startswith("data.")]
    assert (
        evaluate.main([f"{tmp_path}/out", f"--json={tmp_path}/out.json", "--config=configs/shapes.py:tiny", *shapes])
        == 0
    )
    assert scores_of(tmp_path / "out.json")["miou"] == pytest.approx(scores_of(tmp_path / "run.json")["miou"])
    assert "license: cc-by-nc-4.0" in (tmp_path / "out" / "README.md").read_text()


def test_a_public_network_is_evaluated_as_it_is(small_unet, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, channels in (("images", (3,)), ("masks", ())):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256 if channels else 3, (16, 24, *channels), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    scores = tmp_path / "scores.json"
    command = [str(small_unet), "--accept_license", "--whole", f"--data={tmp_path}/data", f"--json={scores}"]
    assert evaluate.main(command) == 0
    model, counts = read_model(small_unet, accept_license=True), np.zeros((3, 3), int)
    for i in range(2):
        image, mask = (np.asarray(Image.open(tmp_path / "data" / name / f"{i}.png")) for name in ("images", "masks"))
        x = (image[None] - np.array(model.description.mean)) / np.array(model.description.std)
        logits = jax.jit(lambda x: model.model.apply(model.variables, x, train=False))(x.astype(np.float32))
        np.add.at(counts, (mask, np.asarray(logits)[0].argmax(-1)), 1)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    assert scores_of(scores)["miou"] == pytest.approx((np.diag(counts) / union).mean())
    assert "masks of class indices: 2 images" in capsys.readouterr().out


def few_pets(source, folder):
    """Returns a folder with the images of another one, twelve of which are for training and four for tests."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(source / "images")
    (folder / "annotations" / "trimaps").symlink_to(source / "annotations" / "trimaps")
    for name, count in (("trainval", 12), ("test", 4)):
        lines = (source / "annotations" / f"{name}.txt").read_text().splitlines(keepends=True)
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines[:count]))
    return folder


@pytest.mark.long
def test_a_segformer_is_fine_tuned_on_photographs(shared_data, tmp_path, capsys):
    folder = write_repository(tmp_path / "segformer", SEGFORMER, segformer_tensors())
    pets = f"data.dir={few_pets(shared_data / 'oxford_pets_mini', tmp_path / 'pets')}"
    few = ("data.image_size=(64,64)", "eval.batch_size=4", "train.batch_size=4", "train.epochs=0", pets)
    assert_resumes_bit_for_bit("configs/pet.py:binary", folder, tmp_path, *few, "model.options={}")
    assert "these are initialized anew: head\n" in capsys.readouterr().err
    assert (
        export.main([f"--model={tmp_path}/parts", f"--output={tmp_path}/out", f"--format={FORMAT}", "--images=2"]) == 0
    )
    assert evaluate.main([str(folder), "--config=configs/pet.py", f"--config.{pets}"]) == 0
    assert "note: the dataset calls the classes pet, background, border" in capsys.readouterr().err
