"""The scores of several runs in one table, with the mean and standard deviation over runs that differ by chance."""

from collections.abc import Mapping, Sequence

import numpy as np


def spread_table(
    scores: Mapping[str, Mapping[str, float]], names: Sequence[str], groups: Mapping[str, str] | None = None
) -> str:
    """Returns a text table with a row for each run, followed by the mean and the standard deviation over each group.

    The standard deviation is that of a sample of n runs, with n - 1 in the denominator. Groups of a single run have
    neither.

    Args:
      scores: the scores of each run, by the name of the run; runs without scores are omitted.
      names: the scores to show.
      groups: the name of each run's group; None for one group without a name.
    """
    rows = {run: np.array([found[name] for name in names]) for run, found in scores.items() if found}
    if not rows:
        return "no evaluation yet"
    lines, grouped = [*rows.items()], _by_group(rows, groups)
    for group, values in grouped.items():
        if len(values) > 1:
            prefix = f"{group}: " if group else ""
            lines += [
                (f"{prefix}mean", np.mean(values, 0)),
                (f"{prefix}standard deviation (n = {len(values)})", np.std(values, 0, ddof=1)),
            ]
    widths = [max(len(title) for title, _ in lines), *(max(len(name), 7) for name in names)]
    cells = [["", *names], *([title, *(f"{value:.4f}" for value in values)] for title, values in lines)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)


def _by_group(rows: Mapping[str, np.ndarray], groups: Mapping[str, str] | None) -> dict[str, list[np.ndarray]]:
    grouped: dict[str, list[np.ndarray]] = {}
    for run, values in rows.items():
        grouped.setdefault(groups[run] if groups else "", []).append(values)
    return grouped
