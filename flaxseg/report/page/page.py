"""The report of an evaluation as one HTML page, which needs no other file, no network and no script."""

import importlib.resources

from flaxseg.report.page.calibration import calibration
from flaxseg.report.page.class_fraction import class_fraction
from flaxseg.report.page.classes import classes
from flaxseg.report.page.confusion import confusion
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.details import details
from flaxseg.report.page.examples import examples
from flaxseg.report.page.header import header, headline
from flaxseg.report.page.html import Html, element, join
from flaxseg.report.page.image_scores import image_scores
from flaxseg.report.page.training import training

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What browsers may load: nothing but what is in the page. Scripts do not run, wherever they come from."""


def html_page(content: PageContent) -> str:
    """Returns the report as a complete HTML document.

    It holds its styles, charts (SVG) and images (data URIs) itself; nothing is loaded from elsewhere. All names, ids
    and values are escaped. With eight worst and eight best images it has less than 3 MB.

    Args:
      content: what it shows.
    """
    scatter = element(
        "section",
        element("h2", "Where the errors are"),
        element("div", image_scores(content), class_fraction(content), class_="columns"),
    )
    sections = (
        header(content), headline(content), classes(content), confusion(content), calibration(content), scatter,
        examples(content), training(content), details(content), _footer(content),
    )  # fmt: skip
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{content.network} on {content.data}: evaluation"),
        element("style", Html(_style())),
    )
    body = element("body", element("main", join(*sections, separator="\n")))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _footer(content: PageContent) -> Html:
    version = content.versions.get("flaxseg", "")
    return element("footer", f"Written by flaxseg {version} on {content.created}.")


def _style() -> str:
    return importlib.resources.files("flaxseg.report.page").joinpath("style.css").read_text(encoding="utf-8")
