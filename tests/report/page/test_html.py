"""Elements as text: nothing that a user names becomes markup."""

import math

import pytest

from flaxseg.report.page.html import Html, data, element, escape, join, percent, shorten


def test_children_and_attributes_are_escaped_and_elements_are_not():
    inner = element("b", "a<b>&\"'")
    assert inner == "<b>a&lt;b&gt;&amp;&quot;&#x27;</b>"
    assert element("p", inner, "<", title='"><script>') == (
        f'<p title="&quot;&gt;&lt;script&gt;">{inner}&lt;</p>'
    )  # fmt: skip
    assert join("<", Html("<i></i>"), None, separator="-") == "&lt;-<i></i>"


def test_attributes():
    assert element("text", class_="end", data_label="x", x=1.0, y=2.345, hidden=True, title=None, open=False) == (
        '<text class="end" data-label="x" x="1" y="2.35" hidden></text>'
    )
    assert element("meta", name="viewport") == '<meta name="viewport">'


def test_characters_that_no_page_may_hold_are_replaced():
    assert escape("a\x00b\ud800c\x1bd\ne\u202e") == "a\ufffdb\ufffdc\ufffdd\ne\u202e"
    assert escape("a\ud800").encode()


def test_numbers_keep_all_digits_in_their_attribute():
    assert data(1 / 3) == '<data value="0.3333333333333333" title="0.333333">0.333</data>'
    assert 'value=""' in data(math.nan) and "undefined" in data(math.nan)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0 %"), (1, "100 %"), (0.12345, "12.3 %"), (0.0312, "3.12 %"), (1e-6, "< 0.01 %"), (0.9999, "100 %"),
     (math.nan, "\u2013")],
)  # fmt: skip
def test_percent(fraction, text):
    assert percent(fraction) == text


def test_long_texts_lose_their_middle():
    assert shorten("abcdefghijkl", 12) == "abcdefghijkl"
    assert shorten("abcdefghijklm", 9) == "abcdef\u2026lm"
