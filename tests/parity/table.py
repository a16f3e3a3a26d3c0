"""The tables that the comparisons print; requires nothing."""

from collections.abc import Mapping

TOLERANCE = 1e-4
"""The largest difference of logits and features in float32."""


def print_header(columns: Mapping[str, float]) -> None:
    """Prints the names of the columns, and the largest difference that is allowed in each."""
    print(f"{'':40}" + "".join(f"{name:>18}" for name in columns))
    print(f"{'allowed':40}" + "".join(f"{limit:18.0e}" for limit in columns.values()), flush=True)


def print_row(name: str, found: Mapping[str, tuple[float, str]], columns: Mapping[str, float]) -> bool:
    """Prints the differences of a case, and where those are that exceed the limits; returns whether there are such.

    Args:
      name: the name of the case.
      found: for each column that the case has, the difference, and where it is.
      columns: the names of the columns, and the largest difference that is allowed in each.
    """
    shown = [f"{found[column][0]:18.1e}" if column in found else f"{'-':>18}" for column in columns]
    # Negated so that NaN counts as a difference.
    wrong = [column for column, (value, _) in found.items() if not value <= columns[column]]
    where = "".join(f"  {column} DIFFERS: {found[column][1]}" for column in wrong)
    print(f"{name:40}" + "".join(shown) + where, flush=True)
    return bool(wrong)
