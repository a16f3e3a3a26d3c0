"""Exported folders: what they hold, what is checked before, and what stays untouched."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported_networks import trained

from flaxseg.deploy import export_formats
from flaxseg.deploy import folder as folder_module
from flaxseg.deploy.evaluation_data import evaluation_config, open_evaluation_data
from flaxseg.deploy.export_formats import MIOU_NOTE, ExportOptions
from flaxseg.deploy.folder import check_output, export_network
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.program import parse_size
from flaxseg.deploy.saved import read_model
from flaxseg.errors import ArgumentError, ExportError


@pytest.fixture(scope="module")
def network():
    return trained("plain_unet", width=2, depth=1, image_size=(8, 12))


def test_a_folder_holds_weights_program_report_and_card(network, tmp_path):
    lines = []
    report = export_network(network, tmp_path / "out", ExportOptions(("stablehlo",), images=5), say=lines.append)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "model.json", "model.stablehlo", "export.json", "README.md"}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == report
    for name in ("safetensors", "stablehlo"):
        entry = report["formats"][name]
        assert entry["images"] == 5 and entry["differing_pixels"] == 0
        assert entry["largest_difference"] <= 1e-5 * entry["largest_logit"]
    assert report["formats"]["stablehlo"]["image_size"] == "multiples of 2 pixels"
    assert any("model.stablehlo" in line and "0 of 544 pixels differ" in line for line in lines)
    assert "safetensors: exporting (always written)" in lines and "stablehlo: exporting" in lines
    again = read_model(tmp_path / "out")
    assert again.description == network.description


@pytest.mark.parametrize(
    "changes", [{"weights": "float16"}, {"weights": "int8"}, {"normalized": False}, {"output": "classes"}]
)
def test_options(network, tmp_path, changes):
    options = ExportOptions(("stablehlo",), images=2, image_size=(8, 8), **changes)
    report = export_network(network, tmp_path / "out", options)
    entry = report["formats"]["stablehlo"]
    limit = {"float16": 1e-2, "int8": 1e-1}.get(options.weights, 1e-5)
    assert entry["largest_difference"] <= limit * entry["largest_logit"]
    assert report["input"]["values"] == ("0..255" if options.normalized else "(image - mean) / std")


def test_a_program_that_differs_is_not_written_and_changes_nothing(network, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.stablehlo").write_text("earlier")
    read = export_formats.stablehlo.read_stablehlo
    monkeypatch.setattr(export_formats.stablehlo, "read_stablehlo", lambda path: lambda image: read(path)(image) + 1)
    with pytest.raises(ExportError, match=r"stablehlo \(model\.stablehlo\): its outputs differ .*it was not written"):
        export_network(network, tmp_path / "out", ExportOptions(("stablehlo",), images=2))
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "model.stablehlo"]
    assert (tmp_path / "out" / "model.stablehlo").read_text() == "earlier"


@pytest.mark.long
def test_masks_give_the_miou_before_and_after(network, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(3):
            shape = (8, 12, 3) if kind == "images" else (8, 12)
            pixels = np.random.default_rng(number).integers(0, 4, shape).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "data" / kind / f"{number}.png"), pixels)
    lines = []
    options = ExportOptions(("stablehlo",), image_size=(8, 12), weights="int8")
    report = export_network(network, tmp_path / "out", options, data=tmp_path / "data", say=lines.append)
    assert report["compared_on"] == "3 images and masks of the folder data"
    entry = report["formats"]["stablehlo"]
    found = open_evaluation_data(evaluation_config(network, data=str(tmp_path / "data")))
    for key, folder in (("miou_before", network), ("miou_after", read_model(tmp_path / "out"))):
        assert entry[key] == pytest.approx(Predictor([folder]).evaluate(found.dataset).compute()["miou"], abs=1e-12)
    assert 0 < entry["miou_before"] < 1
    scores = f"mIoU of the network {entry['miou_before']:.4f}, of the file {entry['miou_after']:.4f}"
    assert any(line.endswith(scores) for line in lines)
    assert len(report["formats"]) == 2 and lines.count(MIOU_NOTE) == 1 and lines[-1] == MIOU_NOTE
    assert f"| {entry['miou_before']:.4f} | {entry['miou_after']:.4f} |" in (tmp_path / "out" / "README.md").read_text()


def test_a_network_that_takes_one_size_says_why(tmp_path):
    network = trained("exported_networks:DependsOnTheSize", image_size=(8, 12))
    lines: list[str] = []
    report = export_network(network, tmp_path / "out", ExportOptions(("stablehlo",), images=2), say=lines.append)
    entry = report["formats"]["stablehlo"]
    assert entry["image_size"] == "8 x 12 pixels"
    assert "jax.export cannot trace this network for images of any size" in entry["note"]
    assert any("\n  one size only: jax.export cannot trace" in line for line in lines)
    assert "takes one image size only: jax.export cannot trace" in (tmp_path / "out" / "README.md").read_text()


def test_a_later_export_replaces_only_its_own_files(network, tmp_path):
    (tmp_path / "model.onnx").write_text("of an earlier network")
    (tmp_path / "notes.txt").write_text("mine")
    export_network(network, tmp_path, ExportOptions(images=1))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "model.safetensors").exists()


def test_a_full_disk_is_one_error(network, tmp_path, monkeypatch):
    def fails(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(ExportError, match=r"out: cannot be written \(No space left on device: .*enough space"):
        export_network(network, tmp_path / "out", ExportOptions(images=1))
    assert list(tmp_path.iterdir()) == []


def test_without_the_cpu_the_error_says_how_to_add_it(network, tmp_path, monkeypatch):
    def devices(platform: str) -> None:
        raise RuntimeError(f"Unknown backend {platform}")

    monkeypatch.setattr(folder_module.jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ExportError, match=r"outputs are compared on the CPU; add it: JAX_PLATFORMS=cuda,cpu"):
        export_network(network, tmp_path / "out", ExportOptions(images=1))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_would_destroy_something_are_refused(tmp_path):
    source = tmp_path / "run"
    (source / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "README.md").touch()
    for name in ("new", "."):
        check_output(tmp_path / name, source, overwrite=False)
    check_output(tmp_path / "old", source, overwrite=True)
    with pytest.raises(ExportError, match=r"old: already holds README\.md; give another folder, or --overwrite"):
        check_output(tmp_path / "old", source, overwrite=False)
    with pytest.raises(ExportError, match="file: is a file; give a folder"):
        check_output(tmp_path / "file", source, overwrite=True)
    for other in (source, tmp_path / "elsewhere"):
        with pytest.raises(ExportError, match="is a run, or the folder that the network is read from"):
            check_output(source, other, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("onxx",)}, "format = 'onxx': must be one of 'safetensors', 'stablehlo', 'onnx'; did you mean"),
        ({"weights": "int4"}, "weights = 'int4': must be one of 'float32', 'float16', 'int8'"),
        ({"images": 0}, "images = 0: must be an integer of at least 1"),
        ({"image_size": (0, 8)}, "image_size = 0: must be an integer of at least 1"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        ExportOptions(**options)


def test_sizes_are_parsed():
    assert [parse_size(text) for text in (None, "512,768", "512x768")] == [None, (512, 768), (512, 768)]
    with pytest.raises(ArgumentError, match="image_size = '512': must be HEIGHT,WIDTH, such as 512,768"):
        parse_size("512")


def test_batch_statistics_matter(network):
    # Otherwise the comparisons above would show nothing.
    assert any(
        np.ptp(leaf) > 0 for leaf in network.variables["batch_stats"]["encoder"]["level0"]["block0"]["norm"].values()
    )
