"""What README.md and docs/ show works: snippets run, commands are valid, and links lead to files."""

import importlib
import re
import shlex
import tomllib
import unittest.mock
from pathlib import Path

import jax
import pytest
from representatives import representatives

from flaxseg.__main__ import COMMANDS as SHORT_NAMES
from flaxseg.augment import STRENGTHS
from flaxseg.data import DATASETS
from flaxseg.losses import LOSSES
from flaxseg.main import main
from flaxseg.metrics import METRICS
from flaxseg.models import MODELS, Architecture
from flaxseg.models.__main__ import main as list_models
from flaxseg.models.encoders import ENCODERS
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES
from flaxseg.registry import option_names

ROOT = Path(__file__).resolve().parent.parent
OTHERS = ("configuration.md", "exporting.md", "using.md", "public_networks.md", "reliability.md")
"""Pages of docs/ that are generated, or whose snippets need a trained network; other tests run these."""

FILES = [
    "README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in OTHERS),
]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
ALL = "\n".join(PAGES.values())
README = PAGES["README.md"]
NAMES = "|".join(SHORT_NAMES)
COMMANDS = re.findall(r"^(?:\w+=\S+ )?python -m flaxseg\.(\w+) ?(.*)$", ALL, re.MULTILINE)
COMMANDS += [
    (SHORT_NAMES[name][0], words)
    for name, words in re.findall(rf"^(?:\w+=\S+ )?flaxseg ({NAMES})(?= |$) ?(.*)$", ALL, re.MULTILINE)
]
SNIPPETS = [snippet for page in PAGES.values() for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of a reader: it holds the configurations, and the snippets that begin with a file's name."""

    for snippet in SNIPPETS:
        if name := re.match(r"# (\w+\.py)\n", snippet):
            (tmp_path / name[1]).write_text(snippet, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_are_valid(command, arguments, folder, capsys):
    words = shlex.split(arguments, comments=True)
    if command == "models":
        assert list_models(words) == 0
    elif command == "doctor":
        # Without the devices, which take long; `runs/shapes` is missing here.
        assert importlib.import_module("flaxseg.doctor").main([*words, "--skip_devices"]) == ("runs/shapes" in words)
        assert re.search("runs/shapes: does not exist|healthy", capsys.readouterr().out)
    elif command in ("evaluate", "predict", "export"):
        # The flags are known; only the run, or the folder of images, is missing here.
        assert importlib.import_module(f"flaxseg.{command}").main(words) == 1
        assert re.search("runs/shapes|runs/folder|(DIR|PHOTOS): does not exist", capsys.readouterr().err)
    elif "--help_config" in words:
        with pytest.raises(SystemExit, match="^0$"):
            main(words)
    else:
        # The keys are those of every command; `main` is the one that can print them.
        assert main([*words, "--print_config"]) == 0
        assert "batch_size" in capsys.readouterr().out
    assert not capsys.readouterr().err


def test_every_command_is_checked():
    lines = [line for line in ALL.splitlines() if re.match(rf"(\w+=\S+ )?(python |flaxseg ({NAMES})( |$))", line)]
    assert len(lines) == len(COMMANDS) >= 20
    assert {command for command, _ in COMMANDS} == {
        "main",
        "evaluate",
        "predict",
        "export",
        "doctor",
        "inspect_data",
        "lr_find",
        "models",
    }


SHORT = [snippet for snippet in SNIPPETS if "train_and_evaluate(" not in snippet and "eval_batches(" not in snippet]
"""Snippets without an evaluation; examples/custom_loop.py and other tests train and evaluate in the same way."""


@pytest.mark.parametrize("snippet", representatives(SNIPPETS, SHORT))
def test_snippets_run(snippet, folder, capsys):
    names = {}
    smaller = snippet.replace("width=8, depth=2", "width=2, depth=1")  # It compiles in less time.
    with unittest.mock.patch.dict(ENCODERS), unittest.mock.patch.dict(MODELS):
        exec(compile(smaller, "snippet", "exec"), names)
    assert bool(capsys.readouterr().out) == ("print(" in snippet)
    if "model" in names:
        model, image = names["model"], jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
        variables = jax.eval_shape(lambda image: model.init(jax.random.key(0), image, train=False), image)
        logits = jax.eval_shape(lambda *given: model.apply(*given, train=False), variables, image)
        assert logits.shape[:3] == (1, 64, 64)


def test_there_are_snippets():
    assert len(SNIPPETS) >= 6


def test_a_run_uses_the_dataset_the_loss_and_the_callback_of_the_reader(folder):
    (command,) = [arguments for _, arguments in COMMANDS if "brier:brier" in arguments]
    (callbacks,) = [arguments for _, arguments in COMMANDS if "alerts:Alerts" in arguments]
    callbacks = shlex.split(callbacks)[1:]  # Without its configuration file.
    small = [
        "data.image_size=(16,16)",
        "model.options.width=2",
        "model.options.depth=1",
        "train.steps=1",
        "log.images=0",
    ]
    assert main([*shlex.split(command), *callbacks, *(f"--config.{key}" for key in small), "--workdir=run"]) == 0
    assert (folder / "run" / "checkpoints" / "1").is_dir()
    assert (folder / "run" / "alerts.txt").read_text().startswith("step 1 of 1: miou 0.")
    assert (folder / "run" / "metrics.csv").is_file()


def test_targets_exist():
    makefile, contributing = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "CONTRIBUTING.md"))
    for target in re.findall(
        r"\bmake (\w+)", " ".join(re.findall(r"`make \w+`|^make \w+", f"{ALL}{contributing}", re.MULTILINE))
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent.joinpath(path) if path else ROOT / page
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not heading or heading in anchors, link


def test_the_map_names_every_package_and_files_that_exist():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[`(flaxseg/\w*/?)`\]\(\S+\) \| (.*) \|$", page, re.MULTILINE))
    packages = {f"flaxseg/{path.parent.name}/" for path in (ROOT / "flaxseg").glob("*/__init__.py")}
    assert rows.keys() == {"flaxseg/", *packages}
    for package, contents in rows.items():
        for name in re.findall(r"`(\w+(?:\.py|/))`", contents):
            assert (ROOT / package / name).exists(), f"{package}{name}"


@pytest.mark.parametrize("table", [DATASETS, MODELS, LOSSES, OPTIMIZERS, SCHEDULES, STRENGTHS, METRICS])
def test_every_name_is_listed(table):
    assert not [name for name in table if f"`{name}`" not in ALL]


def test_options_of_datasets_are_listed():
    # Those of `folder` are many, and `--help_config data.options` describes them.
    options = {option for name in DATASETS if name != "folder" for option in option_names(DATASETS[name])}
    assert not [option for option in options - {"data_dir"} if f"`{option}`" not in ALL]


def test_the_numbers_are_right():
    architectures = sum(isinstance(entry, Architecture) for entry in MODELS.values())
    for number in (f"{architectures} architectures", f"{len(ENCODERS)} encoders", f"{len(LOSSES)} losses"):
        assert number in README


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_description_for_package_indexes_has_no_links_to_files():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
    description = README
    for substitution in hook["fancy-pypi-readme"]["substitutions"]:
        description = re.sub(substitution["pattern"], substitution["replacement"], description)
    assert "![" in README and "![" not in description and "CC BY-SA" not in description
    assert all(link.startswith("http") for link in re.findall(r"\]\(([^)]+)\)", description))
    # Nothing else is lost.
    assert description.startswith("# flaxseg\n") and description.endswith("Apache-2.0; see LICENSE.\n")
    assert re.findall("^#.*", description, re.MULTILINE) == re.findall("^#.*", README, re.MULTILINE)
