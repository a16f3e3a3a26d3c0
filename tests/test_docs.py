"""The site of the documentation: its pages are in the navigation, and links stay within it."""

import runpy
import types
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

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
    ],
)
def test_links_stay_within_the_site(page, link, expected):
    found = HOOKS["on_page_markdown"](f"See {link}.", types.SimpleNamespace(file=File(page)), None, None)
    assert found == f"See {expected}."
