"""Tolerates a bounded number of unreadable examples, which may be none, and counts and reports each of them."""

import dataclasses
import threading
from collections.abc import Callable, Hashable

import numpy as np

from flaxseg.data.sources.wrappers import SourceWrapper
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset
from flaxseg.errors import ChangedFile, DataError

_REMEDY = "`flaxseg inspect`, with the same arguments, lists all examples that cannot be used, with settings"


class BadExamples:
    """Collects the unreadable examples of a run, in all of its splits together.

    Args:
      skip_bad: the number of examples that may be unreadable, at least 0.
      announce: function that is called once per unreadable example with a line of text.
    """

    def __init__(self, skip_bad: int, announce: Callable[[str], None]) -> None:
        self._skip_bad = skip_bad
        self._announce = announce
        self._messages: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    @property
    def messages(self) -> tuple[str, ...]:
        """The error message of each unreadable example, in the order in which they were found."""
        return tuple(self._messages.values())

    def add(self, key: Hashable, error: DataError) -> None:
        """Records an unreadable example; does nothing if its key is already recorded.

        Raises:
          DataError: more than `skip_bad` examples are unreadable; the message lists all that were found.
        """
        with self._lock:
            if key in self._messages:
                return
            self._messages[key] = str(error)
            if len(self._messages) > self._skip_bad:
                found = str(error)
                if self._skip_bad:
                    listed = "".join(f"\n  {message}" for message in self.messages)
                    allowed = f"skip_bad = {self._skip_bad} allows {self._skip_bad}"
                    found = f"{len(self._messages)} examples cannot be read, and {allowed}:{listed}"
                raise DataError(f"{found}\n{_REMEDY}") from error
            self._announce(f"skipped ({len(self._messages)} of {self._skip_bad}): {error}")


def skip_bad_examples(
    dataset: SegmentationDataset, bad: BadExamples, split: str, *, ignored: bool = False
) -> SegmentationDataset:
    """Returns a dataset in which readable examples replace unreadable ones; see `SkippingSource`."""
    return dataclasses.replace(dataset, source=SkippingSource(dataset.source, bad, split, ignored))


@dataclasses.dataclass(frozen=True)
class SkippingSource(SourceWrapper):
    """The examples of a source, where the next readable example replaces each unreadable one.

    Attributes:
      source: the wrapped source.
      bad: records the unreadable examples.
      split: the name of the split, so that the same index of two splits is recorded as two examples.
      ignored: set every label pixel of a replacement to IGNORE_LABEL, so that an evaluation scores no example twice.
    """

    bad: BadExamples
    split: str
    ignored: bool = False

    def __getitem__(self, index: int, /) -> Example:
        for offset in range(len(self)):
            position = (index + offset) % len(self)
            try:
                example = self.source[position]
            except ChangedFile:
                # Skipping it would change batches that a resumed run must reproduce.
                raise
            except DataError as error:
                self.bad.add((self.split, position), error)
                continue
            if offset and self.ignored:
                return {**example, "label": np.full_like(example["label"], IGNORE_LABEL)}
            return example
        raise DataError(f"the split {self.split!r}: none of its {len(self)} examples can be read")
