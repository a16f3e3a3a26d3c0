"""HTML and SVG elements as text, which escape everything that is not an element itself."""

import html
import math
import re
from typing import Any

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset(("br", "img", "link", "meta"))


class Html(str):
    """Text that is HTML already, and is not escaped again."""


def escape(text: Any) -> Html:
    """Returns text for an element or a quoted attribute; control characters and lone surrogates become U+FFFD."""
    return text if isinstance(text, Html) else Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(text))))


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Returns an element.

    Args:
      name: the name of the element.
      *children: its contents; what is not `Html` is escaped, None is omitted.
      **attributes: its attributes, escaped; None and False are omitted, True has no value, numbers are rounded. A final
        underscore, as in `class_`, is dropped, and other underscores become hyphens.
    """
    opening = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix("_").replace("_", "-")
        opening += f" {key}" if value is True else f' {key}="{escape(_text(value))}"'
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{name}>")


def join(*parts: Any, separator: str = "") -> Html:
    """Returns elements and escaped text, one after the other; None is omitted."""
    return Html(separator.join(escape(part) for part in parts if part is not None))


def data(value: float, digits: int = 3) -> Html:
    """Returns a number for reading, whose attributes hold it to the last digit; a dash if it is undefined."""
    if not math.isfinite(value):
        return element("data", "\u2013", value="", title="undefined")
    return element("data", f"{value:.{digits}f}", value=repr(float(value)), title=f"{value:.6g}")


def percent(fraction: float) -> str:
    """Returns a fraction in percent, with three digits at most; a dash if it is undefined."""
    if not math.isfinite(fraction):
        return "\u2013"
    value = 100 * fraction
    if 0 < value < 0.01:
        return "< 0.01 %"
    return f"{value:.{0 if value >= 99.95 or not value else 1 if value >= 10 else 2}f} %"


def shorten(text: str, length: int) -> str:
    """Returns a text of at most `length` characters, whose middle is left out if it is longer."""
    if len(text) <= length:
        return text
    first = length * 2 // 3
    return f"{text[:first]}\u2026{text[len(text) - (length - first - 1) :]}"


def _text(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else ""
    return value
