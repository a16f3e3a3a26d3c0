"""The notebook of the examples: its fields set keys of the configuration, and it runs from the data to an export."""

import ast
import importlib.util
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_repositories import SEGFORMER, segformer_tensors, smp_config, smp_tensors, write_repository

from flaxseg.config.files import load_config
from flaxseg.config.schema import leaves
from flaxseg.errors import DataError
from flaxseg.main import main
from flaxseg.train.parts.public_model import with_public_network

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "segmentation.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
SETTINGS = [code for code in CODE if code.startswith(("# @title Data", "# @title Network", "# @title Training"))]
(CONFIGURATION,) = (code for code in CODE if "overrides = " in code)
_FIELD = re.compile(r"^(\w+) = (.*?)  # @param (.*)$", re.MULTILINE)
FIELDS = {name: value for code in SETTINGS for name, value, _ in _FIELD.findall(code)}

QUICK = "log.images=2 log.every=1 log.writer=tensorboard mesh.data=1"

SMALL = {
    "image_size": "32, 32",
    "batch_size": 8,
    "depth": "1",
    "width": "4",
    "epochs": 2.0,
    "evaluate_every": 2,
    "more": f"{QUICK} data.options.size=(32,32) data.options.count=16",
}
"""Fields of a short run on the built-in shapes."""


def with_fields(code, fields):
    """Returns the code of a cell with other values in its form."""
    return _FIELD.sub(lambda line: f"{line[1]} = {fields.get(line[1], ...)!r}" if line[1] in fields else line[0], code)


def configure(**fields):
    """Runs the cells of the settings; returns their names."""
    assert not fields.keys() - FIELDS.keys()
    names = {}
    for code in (*SETTINGS, CONFIGURATION):
        exec(with_fields(code, fields), names)
    return names


UNET = {"model": "unet"}
FOLDER = {"dataset": "folder"}

CASES = [
    ("dataset", "shapes", {}, {"data.name": "shapes"}),
    ("dataset", "oxford_iiit_pet", {}, {"data.name": "oxford_iiit_pet"}),
    ("dataset", "cityscapes", {}, {"data.name": "cityscapes", "data.resize": "keep"}),
    ("dataset", "folder", {}, {"data.name": "folder"}),
    ("folder", "", {}, {"data.dir": ""}),
    ("folder", "my data/pets", {}, {"data.dir": "my data/pets"}),
    ("image_folder", "", FOLDER, {"data.name": "folder"}),
    ("image_folder", "train/image", FOLDER, {"data.options.images": "train/image"}),
    ("mask_folder", "", FOLDER, {"data.name": "folder"}),
    ("mask_folder", "train/label", FOLDER, {"data.options.masks": "train/label"}),
    ("class_names", "", FOLDER, {"data.name": "folder"}),
    ("class_names", "cell, its wall", FOLDER, {"data.options.class_names": "cell, its wall"}),
    ("resize", "", FOLDER, {"data.resize": "stretch"}),
    ("resize", "keep", FOLDER, {"data.resize": "keep"}),
    ("image_size", "", {"dataset": "cityscapes"}, {"data.image_size": (512, 1024)}),
    ("image_size", "48, 64", {}, {"data.image_size": (48, 64)}),
    ("batch_size", "", FOLDER, {"train.batch_size": 8}),
    ("batch_size", "4", {}, {"train.batch_size": 4}),
    ("seed", 0, {}, {"seed": 0}),
    ("seed", 7, {}, {"seed": 7}),
    ("augmentation_strength", "", FOLDER, {"augment.flip": 0.5, "augment.scale": (0.8, 1.3)}),
    ("augmentation_strength", "0", FOLDER, {"augment.flip": 0, "augment.scale": (1, 1)}),
    ("augmentation_strength", "0.5", {}, {"augment.flip": 0.5, "augment.scale": (0.8, 1.3), "augment.contrast": 0.2}),
    ("model", "", {}, {"model.name": "plain_unet", "model.options.width": 16}),
    ("model", "segformer", {}, {"model.name": "segformer"}),
    ("encoder", "", UNET, {"model.name": "unet"}),
    ("encoder", "mobilenet_v2", UNET, {"model.options.encoder": "mobilenet_v2"}),
    ("depth", "2", {}, {"model.options.depth": 2}),
    ("depth", "5", UNET, {"model.options.encoder_depth": 5}),
    ("width", "8", {}, {"model.options.width": 8}),
    ("width", "64", {"model": "deeplabv3plus"}, {"model.options.decoder_channels": 64}),
    ("width", "32", {"model": "fpn"}, {"model.options.segmentation_channels": 32}),
    ("kernel_size", "", {}, {"model.options.width": 16}),
    ("kernel_size", "5", {}, {"model.options.kernel_size": 5}),
    ("batch_norm", True, {}, {"model.options.width": 16}),
    ("batch_norm", False, {}, {"model.options.norm": "none"}),
    ("batch_norm", False, {"model": "pspnet"}, {"model.options.use_batchnorm": False}),
    ("dropout", "0.1", {}, {"model.options.decoder_dropout": 0.1}),
    ("dropout", "0.3", {"model": "fpn"}, {"model.options.dropout": 0.3}),
    ("pretrained", "", UNET, {"model.pretrained": ""}),
    ("pretrained", "imagenet", UNET, {"model.pretrained": "imagenet"}),
    ("accept_license", False, {}, {"model.accept_license": False}),
    ("accept_license", True, {}, {"model.accept_license": True}),
    ("loss", "", FOLDER, {"loss.cross_entropy": 1.0}),
    ("loss", "dice", {}, {"loss.dice": 1.0}),
    ("loss", "cross_entropy + dice", {}, {"loss.cross_entropy": 1.0, "loss.dice": 1.0}),
    ("class_weights", "", {}, {"class_weights": "none"}),
    ("class_weights", "log", {}, {"class_weights": "log"}),
    ("metrics", "", {}, {"eval.metrics": ()}),
    ("metrics", "per_image, boundary", {}, {"eval.metrics": ("per_image", "boundary")}),
    ("early_stop", "", {}, {"train.early_stop": 0}),
    ("early_stop", "200", {}, {"train.early_stop": 200}),
    ("optimizer", "", {}, {"optimizer.name": "adamw"}),
    ("optimizer", "sgd", {}, {"optimizer.name": "sgd"}),
    ("learning_rate", "", {}, {"optimizer.learning_rate": 0.003}),
    ("learning_rate", "0.1", {}, {"optimizer.learning_rate": 0.1}),
    ("epochs", "", {}, {"train.steps": 700}),
    ("epochs", "20", {}, {"train.epochs": 20.0, "train.steps": 0}),
    ("evaluate_every", "", {}, {"eval.every": 350}),
    ("evaluate_every", "0", {}, {"eval.every": 0}),
    ("more", "", {}, {"train.precision": "float32"}),
    ("more", "train.precision=bfloat16 --config.data.options.size='(32, 48)'", {}, {"data.options.size": (32, 48)}),
    ("more", "data.options.class_names=('cell', 'wall')", FOLDER, {"data.options.class_names": ("cell", "wall")}),
]
"""A field, its value, the values of other fields, and what keys of the configuration then are."""

OTHERWISE = {"callbacks", "run_name"}
"""Fields that other tests set."""


@pytest.mark.parametrize(("field", "value", "others", "expected"), CASES)
def test_a_field_sets_a_key(field, value, others, expected):
    names = configure(**{**others, field: value})
    found = dict(leaves(names["config"]))
    assert {key: found[key] for key in expected} == expected
    # Of the options of the network and of the losses, nothing else is set.
    given = {key for key in found if key.startswith(("loss.", "model.options."))}
    if any(key.startswith("loss.") for key in expected):
        assert {key for key in given if key.startswith("loss.")} == set(expected)


def test_every_field_has_two_values():
    for field in FIELDS.keys() - OTHERWISE:
        assert len({value for name, value, _, _ in CASES if name == field}) >= 2, field
    assert FIELDS.keys() > OTHERWISE


@pytest.mark.parametrize("dataset", ["shapes", "oxford_iiit_pet", "cityscapes", "folder"])
def test_empty_fields_leave_the_configuration_as_it_is(dataset):
    own = load_config("pet" if dataset == "oxford_iiit_pet" else dataset)
    assert list(leaves(configure(dataset=dataset)["config"])) == list(leaves(own))


def test_the_name_of_a_run_is_its_folder():
    assert [configure(run_name=name)["workdir"] for name in ("a", "b")] == ["runs/a", "runs/b"]
    assert [configure(dataset=name)["workdir"] for name in ("folder", "shapes:tiny")] == [
        "runs/folder",
        "runs/shapes-tiny",
    ]


def test_callbacks_are_named_by_a_key():
    assert not [each for each in configure()["overrides"] if each.startswith("train.callbacks")]
    found = dict(leaves(configure(callbacks="csv, flaxseg.notebook:LiveCurves")["config"]))
    assert found["train.callbacks"] == ("csv", "flaxseg.notebook:LiveCurves")


def test_a_public_network_fills_in_the_fields_that_are_empty(tmp_path):
    public = write_repository(tmp_path / "segformer", SEGFORMER, None)
    config, _ = with_public_network(configure(pretrained=str(public))["config"])
    found = dict(leaves(config))
    assert (found["model.name"], found["model.options.encoder"]) == ("segformer", "mit_b0")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({**UNET, "kernel_size": "5"}, "config.model.options.kernel_size = 5: no such option"),
        ({"encoder": "resnet18"}, "config.model.options.encoder = 'resnet18': no such option"),
        ({"model": "unett"}, "name = 'unett': unknown; did you mean 'unet'?"),
        ({**UNET, "width": "16"}, "config.model.options.decoder_channels = 16: must be of type tuple of int"),
        ({"loss": "dise"}, "config.loss = 'dise': unknown; did you mean 'dice'?"),
        ({"image_size": "64"}, "config.data.image_size = 64: must be a tuple of 2 integers"),
        ({"class_weights": "logs"}, "config.class_weights = 'logs': must be 'none', "),
        ({"metrics": "border"}, "config.eval.metrics = ('border',): must be a tuple of names"),
        ({"optimizer": "adamv", "batch_size": 0}, "2 errors in the configuration"),
        ({"dataset": "shape"}, "--config=shape: there is no file shape; did you mean 'shapes'?"),
        ({"more": "train.stepz=3"}, "config.train.stepz: no such key; did you mean 'train.steps'?"),
    ],
)
def test_what_does_not_go_together_is_the_error_of_the_command(fields, problem):
    with pytest.raises(ValueError, match="^") as caught:
        configure(**fields)
    assert problem in str(caught.value)
    assert type(caught.value).__module__ == "flaxseg.errors"


@pytest.mark.parametrize(
    ("folder", "source"), [("examples", "{clone}[cuda12]"), ("", "{clone}[cuda12]"), ("..", "flaxseg[cuda12]")]
)
def test_the_notebook_installs_the_clone_that_it_lies_in(folder, source, tmp_path, monkeypatch):
    clone = tmp_path / "clone"
    for name in ("examples", "flaxseg"):
        (clone / name).mkdir(parents=True)
    (clone / "flaxseg" / "__init__.py").touch()
    monkeypatch.chdir(clone / folder)
    ran = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words))
    (cell,) = ("".join(cell["source"]) for cell in CELLS if "# @title Install" in "".join(cell["source"]))
    install = re.sub("requirement = .*", 'requirement = "flaxseg[cuda12]"', cell.partition("import flaxseg\n")[0])
    exec(compile(install, "install", "exec"), {})
    assert ran == [[sys.executable, "-m", "pip", "install", "--quiet", source.format(clone=clone)]]


def test_the_printed_command_trains_the_same(capsys):
    names = configure(**SMALL, loss="cross_entropy + dice", folder="a b", augmentation_strength=0.3)
    words = shlex.split(capsys.readouterr().out)
    assert words[:2] == ["flaxseg", "train"]
    assert main([*words[2:], "--print_config"]) == 0
    printed = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert printed == [f"{key} = {value!r}" for key, value in leaves(names["config"])]


def test_the_notebook_is_that_of_its_source():
    written = runpy.run_path(str(ROOT / "docs" / "make_notebook.py"))["written"]
    assert NOTEBOOK.read_text(encoding="utf-8") == written(NOTEBOOK.with_suffix(".py").read_text(encoding="utf-8"))
    assert not any(cell["outputs"] or cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code")
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


def test_the_notebook_does_not_need_colab():
    assert not [code for code in CODE if "google" in code or "ipywidgets" in code]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Returns a function that runs the notebook with values of its fields, and returns its cells by their code."""
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the extra `test` has it")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")

    def execute(**fields):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of other packages, about their own changes.
            import nbformat
            from nbclient import NotebookClient

            notebook = nbformat.read(NOTEBOOK, as_version=4)
            nbformat.validate(notebook)
            for cell in notebook.cells:
                cell.source = with_fields(cell.source, fields)
            # The last cell shows how an error about input looks.
            failing = nbformat.v4.new_code_cell("load_config('shapez')", metadata={"tags": ["raises-exception"]})
            notebook.cells.append(failing)
            client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
            client.execute()
        return [cell for cell in notebook.cells if cell.cell_type == "code"]

    return execute


def texts(cell):
    """Returns what a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)


def pictures(cell):
    """Returns the number of pictures below a cell."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def find(cells, code):
    (found,) = (cell for cell in cells if code in cell.source)
    return found


def assert_complete(cells, folder, run_name):
    """Checks what every run of the notebook shows and writes."""
    assert "This dataset can be trained on" in texts(find(cells, "inspect_dataset("))
    assert pictures(find(cells, "inspection.sheets")) == 3
    training = find(cells, "train_and_evaluate(")
    assert pictures(training) == 1, "the curves are drawn in one place"
    assert re.search(r"^mIoU +0\.\d+$", texts(training), re.MULTILINE)
    assert pictures(find(cells, '"confusion_matrix"')) == 2
    assert (folder / "exported" / run_name / "model.safetensors").is_file()
    assert (folder / "exported" / f"{run_name}.zip").is_file()
    predicted = find(cells, "def predict(")
    assert pictures(predicted) == 1
    areas = [float(area) for area in re.findall(r"^ *([\d.]+)%  ", texts(predicted), re.MULTILINE)]
    assert sum(areas) == pytest.approx(100, abs=0.1)
    assert [output.output_type for output in cells[-1].outputs] == ["stream"], "an error has no stack trace"
    assert texts(cells[-1]).startswith("error: --config=shapez: there is no file shapez; did you mean 'shapes'?")


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_the_notebook_runs(run, tmp_path, photo):
    cells = run(**SMALL, run_name="first", photo=photo, show_tensorboard=False)
    assert_complete(cells, tmp_path, "first")
    assert (
        len(re.findall(r"%  (background|disc|square|triangle|border)$", texts(find(cells, "def predict(")), re.M)) == 5
    )


@pytest.fixture
def folder(tmp_path):
    """A folder of images and masks of two classes."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for i in range(16):
        label = np.zeros((32, 40), np.uint8)
        top, left = rng.integers(2, 16, 2)
        label[top : top + 12, left : left + 12] = 1
        image = np.clip(rng.normal(70 + 90 * label[..., None], 20, (32, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "data" / "masks" / f"{i}.png")
    return str(tmp_path / "data")


def test_a_dataset_that_cannot_be_trained_on_ends_the_run_below_its_report(folder, capsys):
    names = configure(dataset="folder", folder=folder, more="--config.data.options.values='(0,2)'")
    (inspection,) = (code for code in CODE if "inspect_dataset(" in code)
    with pytest.raises(DataError, match="^the dataset cannot be trained on: repair what is listed above, with `more`"):
        exec(inspection, names)
    report = capsys.readouterr().out
    assert "\nerror: " in report
    assert report.endswith("This dataset cannot be trained on as it is: 3 errors.\n")


OTHER_VALUES = [
    {
        "batch_size": 4, "seed": 3, "augmentation_strength": 0.8, "depth": "2", "width": "6", "kernel_size": "5",
        "batch_norm": False, "dropout": "0.2", "loss": "cross_entropy + dice", "class_weights": "median_frequency",
        "metrics": "per_image, boundary", "early_stop": 4, "optimizer": "sgd", "learning_rate": 0.01, "epochs": 1.5,
        "evaluate_every": 0, "formats": "safetensors, stablehlo", "image_size": "32, 48",
    },
    {
        "dataset": "folder", "model": "unet", "encoder": "resnet18", "depth": "", "width": "", "metrics": "calibration",
        "image_folder": "images", "mask_folder": "masks", "class_names": "ground, square", "resize": "keep",
    },
    {"dataset": "folder", "model": "fpn", "encoder": "mobilenet_v2", "depth": "4", "width": "32", "dropout": "0.1"},
]  # fmt: skip
"""Values of fields, other than those of SMALL, that networks are trained with; every field occurs."""


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(OTHER_VALUES)))
def test_the_notebook_runs_with_other_values(run, tmp_path, photo, folder, number):
    fields = {**SMALL, **OTHER_VALUES[number]}
    if fields.get("dataset") == "folder":
        fields |= {"folder": folder, "more": QUICK}
    cells = run(**fields, run_name=f"run {number}", photo=photo, show_tensorboard=False)
    assert_complete(cells, tmp_path, f"run {number}")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["smp", "transformers"])
def test_the_notebook_trains_a_public_network(run, tmp_path, photo, kind):
    if kind == "smp":
        public = write_repository(tmp_path / "public", smp_config("Unet", "resnet18"), smp_tensors("unet", "resnet18"))
    else:
        public = write_repository(tmp_path / "public", SEGFORMER, segformer_tensors())
    fields = {**SMALL, "depth": "", "width": "", "pretrained": str(public), "accept_license": True}
    cells = run(**fields, run_name="public", photo=photo, show_tensorboard=False)
    assert_complete(cells, tmp_path, "public")


@pytest.mark.long
def test_the_notebook_shows_tensorboard(run, tmp_path, photo, monkeypatch):
    """TensorBoard is a child of the notebook's process, with which it ends; otherwise it is ended by its number."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    try:
        cells = run(**SMALL, run_name="board", photo=photo, show_tensorboard=True)
        shown = [each["data"]["text/html"] for each in find(cells, "show_tensorboard").outputs if "data" in each]
        assert any("iframe" in each for each in shown), shown
    finally:
        for path in (tmp_path / ".tensorboard-info").glob("pid-*.info"):
            os.kill(json.loads(path.read_text())["pid"], signal.SIGTERM)


def test_every_field_is_trained_with_two_values():
    trained = [{**SMALL, **other} for other in OTHER_VALUES]
    trained += [{"folder": "a folder", "pretrained": "a folder", "accept_license": True}]
    for field, default in FIELDS.items():
        if field in ("callbacks", "run_name", "more"):
            continue
        assert {str(fields.get(field, ast.literal_eval(default))) for fields in trained} - {default.strip('"')}, field
