"""Which entries of a table the ordinary suite tests; the others are tested by `make soak`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def representatives(entries: Iterable[Any], ordinary: Collection[Any]) -> list[Any]:
    """Returns the parameters of a test for each entry, marked `long` unless the entry is one of `ordinary`."""
    entries = list(entries)
    assert all(entry in entries for entry in ordinary)
    return [pytest.param(entry, marks=() if entry in ordinary else pytest.mark.long) for entry in entries]
