"""Parses the JSON files of runs and exported folders, which may come from others."""

import json
from typing import Any

_MAX_DEPTH = 50


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text.

    Args:
      text: the content of a file.

    Raises:
      ValueError: it is not JSON, or its values are nested deeper than those of any file of flaxseg, so that a function
        that visits them could exceed Python's recursion limit.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"its values are nested more than {_MAX_DEPTH} deep") from None
    level = [found]
    for _ in range(_MAX_DEPTH):
        level = [value for each in level for value in _members(each)]
        if not level:
            return found
    raise ValueError(f"its values are nested more than {_MAX_DEPTH} deep")


def _members(value: Any) -> list[Any]:
    """Returns the values in an object or a list that have members themselves."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]
