"""The results of an inspection."""

import dataclasses
from collections.abc import Sequence

from flaxseg.data.statistics import Statistics
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import FlaxsegError, UnknownColors, number_of
from flaxseg.inspection.contact_sheet import ContactSheet
from flaxseg.inspection.findings import Finding, Setting


@dataclasses.dataclass(frozen=True)
class Split:
    """One of the splits of an inspected dataset.

    Attributes:
      role: `train` or `eval`.
      name: the split's name in the dataset.
      error: why the split cannot be opened; "" if it can.
      dataset: the opened split. With an error, it is the split with every mask value as a class, or None if that cannot
        be opened either.
      statistics: the statistics of `dataset`; with an error, only image sizes, image values and problems are
        meaningful. None without a dataset.
      cause: the exception whose message is `error`, if there is one.
    """

    role: str
    name: str
    error: str = ""
    dataset: SegmentationDataset | None = None
    statistics: Statistics | None = None
    cause: FlaxsegError | None = None

    @property
    def needs_colors(self) -> bool:
        """Whether its masks are color images, and the colors of the classes are not known."""
        if not isinstance(self.cause, UnknownColors) or self.statistics is None:
            return False
        return all(isinstance(problem.unknown, UnknownColors) for problem in self.statistics.problems)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything that an inspection found.

    Attributes:
      title: what was inspected.
      splits: the training split, and the evaluation split if there is one.
      findings: what the checks report, errors first.
      settings: suggestions computed from the training split: class weights, and the mean and standard deviation of
        its images.
      sheets: contact sheets of the splits and of the first training batches.
    """

    title: str
    splits: Sequence[Split]
    findings: Sequence[Finding]
    settings: Sequence[Setting] = ()
    sheets: Sequence[ContactSheet] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no split could be opened, so that there is nothing to show but the errors."""
        return all(split.statistics is None for split in self.splits)

    @property
    def trainable(self) -> bool:
        """Whether the dataset can be trained on: no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence saying whether the dataset can be trained on, with the number of errors or warnings."""
        count = {kind: sum(f.severity == kind for f in self.findings) for kind in ("error", "warning")}
        if not self.trainable:
            return f"This dataset cannot be trained on as it is: {number_of(count['error'], 'error')}."
        warnings = f"; {number_of(count['warning'], 'warning')}" if count["warning"] else ""
        return f"This dataset can be trained on{warnings}."

    @property
    def unusable(self) -> list[str]:
        """A message for each example that cannot be used, which names its files; the training split comes first.

        A split none of whose masks can be used without colors has a finding that covers all of them, and no message.
        """
        return [
            f"{split.role} {problem.index}: {problem.message}"
            for split in self.splits
            if split.statistics is not None and not split.needs_colors
            for problem in split.statistics.problems
        ]
