"""The site of the documentation: its pages are in the navigation, and links stay within it."""

import ast
import importlib
import inspect
import re
import runpy
import types
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from flaxseg.losses import LOSSES, weighted_sum
from flaxseg.metrics import METRICS, SCORES
from flaxseg.registry import option_names

ROOT = Path(__file__).resolve().parent.parent
HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))


class File(NamedTuple):
    src_uri: str


def pages_of(navigation):
    for entry in navigation:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of(target)


def test_every_page_is_in_the_navigation():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | set(HOOKS["FROM_REPOSITORY"])
    assert sorted(pages_of(site["nav"])) == sorted(pages)


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "[data](docs/data.md)", "[data](data.md)"),
        ("index.md", "[`RESULTS`](benchmarks/RESULTS.md#cpu)", "[`RESULTS`](results.md#cpu)"),
        ("index.md", "[LICENSE](LICENSE)", "LICENSE"),
        ("data.md", "[networks](models.md#tables)", "[networks](models.md#tables)"),
        ("data.md", "[`types.py`](../flaxseg/data/types.py)", "`types.py`"),
        ("data.md", "[start](../README.md)", "[start](index.md)"),
        ("data.md", "[paper](https://arxiv.org/abs/1505.04597)", "[paper](https://arxiv.org/abs/1505.04597)"),
        ("results.md", "[data](../docs/data.md)", "[data](data.md)"),
        ("index.md", "![masks](docs/images/overlays.jpg)", "![masks](images/overlays.jpg)"),
    ],
)
def test_links_stay_within_the_site(page, link, expected):
    found = HOOKS["on_page_markdown"](f"See {link}.", types.SimpleNamespace(file=File(page)), None, None)
    assert found == f"See {expected}."


def test_code_that_is_not_tested_is_marked_as_code():
    page = types.SimpleNamespace(file=File("library.md"))
    found = HOOKS["on_page_markdown"]("```python notest\nx = 1\n```\n", page, None, None)
    assert found == "```python\nx = 1\n```\n"


def formulas_of(function):
    found = re.findall(r"\.\. math::[ ]*(.+(?:\n +\S.*)*)", inspect.getdoc(function))
    return [" ".join(formula.split()) for formula in found]


def test_the_page_of_the_losses_has_the_formula_and_the_options_of_each():
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^###? ([^\n]+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    for name, function in {**LOSSES, "The sum": weighted_sum}.items():
        shown = [" ".join(found.split()) for found in re.findall(r"```math\n(.*?)```", sections[name], re.DOTALL)]
        assert shown == formulas_of(function) and len(shown) == 1, name
    # Those of all losses are described once.
    common = {"class_weights", "smooth", "present_only"}
    for name, function in LOSSES.items():
        missing = [option for option in set(option_names(function)) - common if f"`{option}" not in sections[name]]
        assert not missing, (name, missing)


def test_the_page_of_the_metrics_has_every_score():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    names = [name for metric in METRICS.values() for name in metric.empty(2).compute()]
    assert len(names) > 15
    for name in [*SCORES, *names]:
        assert f"`{name}`" in rows, name


def names_defined_in(path):
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    named = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
    return named | {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_api_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    members = r"(?:, members: \[(.*)\])?"
    listed = dict(re.findall(rf"^::: (\S+)\n    options: {{ heading_level: 3{members} }}$", page, re.MULTILINE))
    assert len(listed) == page.count(":::")
    defined = {}
    for module, only in listed.items():
        path = ROOT.joinpath(*module.split("."))
        names = names_defined_in(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
        defined[module] = names & set(only.split(", ")) if only else names
    packages = [path for path in ROOT.glob("flaxseg/**/__init__.py") if len(path.relative_to(ROOT).parts) <= 3]
    offering = [path.parent for path in packages if "__all__" in names_defined_in(path)]
    assert len(offering) == 8
    for package in (".".join(path.relative_to(ROOT).parts) for path in offering):
        for name in importlib.import_module(package).__all__:
            shown = [home for home in listed if name in defined[home]]
            # Different modules may define things of one name, of which the object knows its own.
            offered = getattr(importlib.import_module(package), name)
            home = offered.__module__ if inspect.isclass(offered) or inspect.isfunction(offered) else ""
            assert home in shown if home in listed else shown, (package, name, home)
