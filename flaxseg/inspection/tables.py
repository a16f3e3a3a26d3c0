"""The tables of a report, as rows of texts."""

import numpy as np

from flaxseg.inspection.results import Inspection, Split


def facts_table(inspection: Inspection) -> list[list[str]]:
    """Returns a heading and one row for each fact, with a column for each split that was read."""
    splits = [split for split in inspection.splits if split.statistics is not None]
    columns = [_facts(split) for split in splits]
    heading = ["", *(f"{split.role} ({split.name})" for split in splits)]
    rows = [[name, *(column[name] for column in columns)] for name in (columns[0] if columns else ())]
    # Most datasets do not say how their splits were selected.
    return [heading, *(row for row in rows if row[0] != "selection" or {*row[1:]} != {"-"})]


def class_table(inspection: Inspection) -> list[list[str]]:
    """Returns a heading and one row for each class: its fraction of the pixels and its images in each split."""
    splits = [split for split in inspection.splits if not split.error]
    heading, columns = ["class"], []
    names: tuple[str, ...] = ()
    for split in splits:
        assert split.dataset is not None and split.statistics is not None
        names = names or split.dataset.class_names
        heading += [f"{split.role} pixels", f"{split.role} images"]
        columns += [[f"{fraction:.2%}" for fraction in split.statistics.class_fractions]]
        columns += [[f"{number:,}" for number in split.statistics.occurrences]]
    # The splits of a dataset that cannot be trained on may have different classes.
    columns = [column for column in columns if len(column) == len(names)]
    return [heading[: len(columns) + 1], *(list(row) for row in zip(names, *columns, strict=True))]


def _facts(split: Split) -> dict[str, str]:
    statistics = split.statistics
    assert statistics is not None
    facts = {"examples": f"{statistics.num_examples:,}", "unusable examples": f"{len(statistics.problems):,}"}
    selection = split.dataset.selection if split.dataset else None
    facts["selection"] = selection.text if selection else "-"
    for axis, name in enumerate(("height", "width")):
        facts[name] = _range(statistics.sizes[:, axis])
    facts["channels"] = ", ".join(map(str, np.unique(statistics.channels)))
    facts["image values"] = "{:g} to {:g}".format(*statistics.value_range) if statistics.ids else "-"
    facts["image values"] += ", not 8 bit" if statistics.is_float.any() else ""
    facts["mean"], facts["standard deviation"] = _numbers(statistics.mean), _numbers(statistics.std)
    # A split that cannot be opened was read with every mask value as a class, so nothing in it is ignored.
    facts["ignored pixels"] = "-" if split.error or not statistics.ids else f"{statistics.ignored_fraction:.2%}"
    facts["fully ignored masks"] = "-" if split.error else f"{len(statistics.all_ignored):,}"
    return facts


def _range(lengths: np.ndarray) -> str:
    if not len(lengths):
        return "-"
    low, first, median, third, high = (f"{value:.0f}" for value in np.percentile(lengths, (0, 25, 50, 75, 100)))
    return low if low == high else f"{low} to {high} (quartiles {first}, {median}, {third})"


def _numbers(values: np.ndarray | None) -> str:
    return "-" if values is None else ", ".join(f"{value:.1f}" for value in values)
