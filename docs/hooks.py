"""Hooks of MkDocs: pages that are files of the repository, links that leave the folder of the pages, code blocks."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

FROM_REPOSITORY = {"index.md": "README.md", "results.md": "benchmarks/RESULTS.md", "changes.md": "CHANGELOG.md"}
"""Pages of the site, and the files that they are."""

_PAGES = {source: page for page, source in FROM_REPOSITORY.items()}
_NOT_TESTED = re.compile(r"^(```\w+) notest$", re.MULTILINE)
"""The beginning of a code block that tests leave out, which MkDocs would not take for one."""

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are files of the repository."""
    from mkdocs.structure.files import File  # Only installed where the pages are built.

    for page, source in FROM_REPOSITORY.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Points links at pages of the site, or only names a file that is no page, and marks code by its language only."""
    del config, files
    path = page.file.src_uri
    folder = posixpath.dirname(FROM_REPOSITORY.get(path, f"docs/{path}"))

    def target(link: re.Match[str]) -> str:
        text, goal, anchor = link[1], posixpath.normpath(posixpath.join(folder, link[2])), link[3] or ""
        goal = _PAGES.get(goal, goal.removeprefix("docs/") if goal.startswith("docs/") else "")
        return f"[{text}]({goal}{anchor})" if goal else text

    return _LINK.sub(target, _NOT_TESTED.sub(r"\1", markdown))
