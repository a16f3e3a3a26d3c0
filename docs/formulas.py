"""Renders formulas in LaTeX as MathML, which browsers draw without a script or a font from another server."""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

# Docstrings have directives of reStructuredText, which Sphinx and editors know; pages have fences, which GitHub knows.
_DIRECTIVE = re.compile(r"^( *)\.\. math::[ ]*(.+(?:\n\1 +\S.*)*)$", re.MULTILINE)
_FENCE = re.compile(r"^( *)```math\n(.*?)\n\1```$", re.MULTILINE | re.DOTALL)
_INLINE = r":math:`([^`]+)`"


def formula(latex: str, *, display: str = "block") -> str:
    """Returns MathML of a formula in LaTeX; `display` is "block" or "inline"."""
    return str(convert(" ".join(latex.split()), display=display))


def on_config(config: Any) -> Any:
    """Adds the formulas to the extensions of Markdown; an event of MkDocs."""
    config.markdown_extensions.append(Formulas())
    return config


class Formulas(Extension):
    """Extension of Python-Markdown for the formulas of pages and docstrings."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Runs before the extensions that read fences and code, whose priorities are 25 and 190."""
        md.preprocessors.register(_Blocks(md), "formulas", 30)
        md.inlinePatterns.register(_Inline(_INLINE, md), "formulas", 195)


class _Blocks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        """Replaces formulas of their own lines by placeholders of their MathML."""

        def stored(found: re.Match[str]) -> str:
            html = f'<div class="formula">{formula(found[2])}</div>'
            return f"\n{found[1]}{self.md.htmlStash.store(html)}\n"

        return _FENCE.sub(stored, _DIRECTIVE.sub(stored, "\n".join(lines))).split("\n")


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:  # type: ignore[override]
        """Replaces a formula within a sentence."""
        return self.md.htmlStash.store(formula(m[1], display="inline")), m.start(0), m.end(0)
