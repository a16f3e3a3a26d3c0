"""The scores of several runs in one table, with their mean and standard deviation."""

from collections.abc import Mapping, Sequence

import numpy as np


def spread_table(scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """Returns a text table with a row for each run, followed by the mean and the standard deviation over the runs.

    The standard deviation is that of a sample of n runs, with n - 1 in the denominator, and NaN for a single run.

    Args:
      scores: the scores of each run, by the name of the run; runs without scores are omitted.
      names: the scores to show.
    """
    rows = {run: [found[name] for name in names] for run, found in scores.items() if found}
    if not rows:
        return "no evaluation yet"
    values = np.array(list(rows.values()))
    spread = values.std(0, ddof=1) if len(rows) > 1 else np.full(len(names), np.nan)
    lines = [*rows.items(), ("mean", values.mean(0)), (f"standard deviation (n = {len(rows)})", spread)]
    label, widths = max(len(title) for title, _ in lines), [max(len(name), 7) for name in names]
    cells = {"": [f"{name:>{width}}" for name, width in zip(names, widths, strict=True)]}
    cells |= {title: [f"{value:{width}.4f}" for value, width in zip(row, widths, strict=True)] for title, row in lines}
    return "\n".join("  ".join([f"{title:<{label}}", *row]) for title, row in cells.items())
