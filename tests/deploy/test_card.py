"""The model card says what is known, and says so where something is not."""

import dataclasses
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported_networks import trained
from jax import export
from PIL import Image

from flaxseg.deploy.card import model_card
from flaxseg.deploy.trained import TrainingRecord

REPORT = {
    "input": {"name": "image", "layout": "float32[batch, height, width, channels]", "values": "0..255"},
    "weights": "float32",
    "compared_on": "20 random images",
    "formats": {
        "onnx": {
            "file": "model.onnx",
            "bytes": 2_500_000,
            "output": "classes",
            "image_size": "64 x 96 pixels",
            "images": 20,
            "pixels": 122880,
            "differing_pixels": 3,
            "largest_logit": 12.5,
            "largest_difference": 2.5e-5,
        }
    },
}
DESCRIPTION = trained("plain_unet", width=2, depth=1).description
CONFIG = {
    "data": {"name": "camvid", "dir": "/home/someone/data"},
    "train": {"steps": 700, "epochs": 10.0},
    "log": {"every": 9},
}


def test_everything_known_is_stated():
    record = TrainingRecord(
        config=CONFIG,
        data={"train": 1600, "eval": 400},
        scores={"miou": 0.71234, "per_image/miou": 0.5},
        step=700,
    )
    card = model_card(DESCRIPTION, record, REPORT, license="cc-by-4.0")
    front, text = card.removeprefix("---\n").split("\n---\n")
    assert front.splitlines()[:3] == ["library_name: flaxseg", "pipeline_tag: image-segmentation", "license: cc-by-4.0"]
    for line in (
        "# plain_unet",
        "License of the weights: cc-by-4.0.",
        "| 1 | class 1 | #0102fe |",
        "- Dataset: camvid.",
        "- train: 1,600 examples.",
        "- The weights are those of step 700.",
        "| miou | 0.7123 |",
        "| `model.onnx` | 2.5 MB | 2.5e-05 | 12.5 | 3 of 122,880 |",
        "| `width` | `2` |",
        "| `train.steps` | `700` |",
        "image = np.asarray(photo.resize((96, 64), Image.Resampling.BILINEAR), np.float32)",
        '(classes,) = session.run(None, {"image": image[None]})',
    ):
        assert line in text.splitlines(), line
    # Neither private paths nor what does not concern the result.
    assert "/home/someone" not in card and "log.every" not in card and "train.epochs" not in card
    card = model_card(DESCRIPTION, TrainingRecord({"train": {"steps": 0, "epochs": 10.0}}), REPORT)
    assert "| `train.epochs` | `10.0` |" in card.splitlines() and "train.steps" not in card


def test_what_is_unknown_is_stated_too():
    card = model_card(DESCRIPTION, TrainingRecord(), REPORT)
    assert (
        "license:" not in card
        and "License of the weights: not stated (`flaxseg export --license=NAME` states it)." in card
    )
    public = dataclasses.replace(DESCRIPTION, source="hf:a/b@c", license="not stated")
    assert "weights: not stated (`flaxseg export" in model_card(public, TrainingRecord(), REPORT)
    assert "## Data\n\nNot recorded." in card and "## Scores\n\nNot recorded." in card
    assert "## Configuration" not in card and "mIoU" not in card and "one image size only" not in card


@pytest.mark.parametrize(("channels", "given"), [(3, '"photo.jpg"'), (4, "image")])
def test_the_code_for_flaxseg_reads_the_photo_that_the_code_for_onnx_reads(channels, given):
    entry = REPORT["formats"]["onnx"] | {"file": "model.safetensors"}
    card = model_card(
        dataclasses.replace(DESCRIPTION, channels=channels),
        TrainingRecord(),
        REPORT | {"formats": {"safetensors": entry}},
    )
    assert f"mask = model({given})  # uint8[H, W], class indices" in card.splitlines()


def test_scores_on_the_samples_and_a_fixed_size_are_stated():
    entry = REPORT["formats"]["onnx"] | {"miou_before": 0.75, "miou_after": 0.74994, "note": "cannot be\ntraced"}
    card = model_card(DESCRIPTION, TrainingRecord(), REPORT | {"formats": {"onnx": entry}})
    lines = card.splitlines()
    assert "| `model.onnx` | 2.5 MB | 2.5e-05 | 12.5 | 3 of 122,880 | 0.7500 | 0.7499 |" in lines
    assert "`model.onnx` takes one image size only: cannot be traced." in lines
    assert "The mIoU was measured on 20 random images, cropped, padded or resized to sizes" in card


class Session:
    """Stands for an ONNX file whose class 1 is what is brighter than 127; checks the size of images."""

    size = (64, 96)
    output = "logits"

    def __init__(self, path):
        assert path.endswith("/model.onnx")

    def run(self, _, inputs):
        brightness = inputs["image"].mean(-1) - 127
        assert brightness.dtype == np.float32 and brightness.shape == (1, *self.size)
        logits = np.stack([-brightness, brightness], axis=-1)
        return [(brightness > 0).astype(np.uint8) if self.output == "classes" else logits]


def check_snippet(snippet, folder, monkeypatch, *, size, output):
    """Runs the code for an ONNX file on a photo whose right third is white, and checks the mask."""
    monkeypatch.setattr(Session, "size", size)
    monkeypatch.setattr(Session, "output", output)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    monkeypatch.chdir(folder)
    expected = np.zeros((30, 45), np.uint8)
    expected[:, 30:] = 1
    Image.fromarray(expected * 255).save("photo.jpg", quality=95)
    found = {}
    exec(compile(snippet, "snippet", "exec"), found)
    assert (found["mask"].dtype, found["mask"].shape) == (np.uint8, (30, 45))
    # The border between both is blurred by resizing.
    np.testing.assert_array_equal(np.delete(found["mask"], range(28, 32), 1), np.delete(expected, range(28, 32), 1))


def brightness_program(size, output):
    """Returns a file of `jax.export` that computes what `Session` does, for images of one size."""

    def program(image):
        brightness = image.mean(-1) - 127
        return (brightness > 0).astype(np.uint8) if output == "classes" else jnp.stack([-brightness, brightness], -1)

    shape = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return bytes(export.export(jax.jit(program))(shape).serialize())


@pytest.mark.parametrize("output", ["logits", "probabilities", "classes"])
@pytest.mark.parametrize(("changes", "size"), [({}, (64, 96)), ({"resize": "keep", "scale": 0.5}, (16, 22))])
def test_the_code_for_an_onnx_file_gives_a_mask_of_the_photo(output, changes, size, tmp_path, monkeypatch):
    report = REPORT | {"formats": {"onnx": REPORT["formats"]["onnx"] | {"output": output}}}
    card = model_card(dataclasses.replace(DESCRIPTION, **changes), TrainingRecord(), report)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    # Where none is named, Pillow resizes photos by another filter than the network was trained on.
    assert snippet.count(".resize(") == snippet.count("Image.Resampling.")
    check_snippet(snippet, tmp_path, monkeypatch, size=size, output=output)


@pytest.mark.parametrize(
    ("changes", "size", "output"),
    [({}, (64, 96), "classes"), ({"resize": "keep", "scale": 0.5}, (16, 22), "logits")],
)
def test_the_code_for_a_stablehlo_file_needs_no_flaxseg(changes, size, output, tmp_path, monkeypatch):
    report = REPORT | {"formats": {"stablehlo": REPORT["formats"]["onnx"] | {"output": output}}}
    card = model_card(dataclasses.replace(DESCRIPTION, **changes), TrainingRecord(), report)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "import flaxseg" not in snippet and "from flaxseg" not in snippet
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "model.stablehlo").write_bytes(brightness_program(size, output))
    check_snippet(snippet, tmp_path, monkeypatch, size=size, output=output)


@pytest.mark.parametrize(
    ("changes", "trained_on", "resized_by"),
    [
        ({}, "on images of 64 x 96 pixels.", None),
        ({"resize": "keep"}, "on crops of 64 x 96 pixels.", "at their own size. The padding"),
        ({"resize": "keep", "scale": 0.5}, "on crops of 64 x 96 pixels.", "at 0.5 times their own size. The padding"),
    ],
)
def test_the_size_of_the_training_images_is_stated(changes, trained_on, resized_by):
    card = model_card(dataclasses.replace(DESCRIPTION, **changes), TrainingRecord(), REPORT)
    assert trained_on in card
    assert resized_by is None or f"# The network was trained on images {resized_by}" in card


def test_the_code_in_the_documentation_gives_a_mask_of_the_photo(tmp_path, monkeypatch):
    page = Path("docs/exporting.md").read_text(encoding="utf-8")
    (snippet,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in text)
    check_snippet(snippet, tmp_path, monkeypatch, size=(256, 256), output="logits")


def test_names_cannot_break_a_table():
    network = trained("plain_unet", width=2, depth=1, num_classes=1)
    description = dataclasses.replace(network.description, class_names=("a|b\n<i>",))
    card = model_card(description, TrainingRecord(), REPORT)
    assert "| 0 | a\\|b &lt;i> | #0000ff |" in card.splitlines()
