"""Findings, which the checks report, each with the settings that may repair it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

_MAX_LISTED = 10

Severity = Literal["error", "warning", "note"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Values to set, and the condition under which they are the right ones.

    Attributes:
      when: the condition or the purpose, such as `if these pixels are to be ignored`.
      arguments: the value of each argument to set. The names are those of the dataset function's options, of the
        fields of `TrainingSetup`, or `config`, `class_weights`, `cross_entropy`, `mean` and `std`.
    """

    when: str
    arguments: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fact about a dataset that its user should know.

    Attributes:
      severity: `error` when the dataset cannot be trained on as it is; `warning` when something is probably wrong;
        `note` for advice.
      text: the finding in one or two sentences, with the split that it is about in front.
      settings: alternative repairs, the most likely first.
    """

    severity: Severity
    text: str
    settings: tuple[Setting, ...] = ()


def abbreviate(texts: Sequence[str]) -> str:
    """Joins the first ten texts with commas and adds how many more there are."""
    more = len(texts) - _MAX_LISTED
    return ", ".join(texts[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
