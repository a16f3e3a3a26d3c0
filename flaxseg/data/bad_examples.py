"""Training on although some examples cannot be read: up to a number, counted and listed."""

import dataclasses
import threading
from collections.abc import Callable

import numpy as np

from flaxseg.data.types import IGNORE_LABEL, Example, Source, digest, identity, reduced
from flaxseg.errors import ChangedFile, DataError


class BadExamples:
    """What could not be read in a run, in all of its splits together.

    Args:
      allowed: how many examples may be unreadable, 0 or more.
      announce: called with a line of text for each, once.
    """

    def __init__(self, allowed: int, announce: Callable[[str], None]) -> None:
        self._allowed = allowed
        self._announce = announce
        self._messages: dict[object, str] = {}
        self._lock = threading.Lock()

    @property
    def messages(self) -> tuple[str, ...]:
        """What was wrong with each, in the order in which they were met."""
        return tuple(self._messages.values())

    def add(self, key: object, error: DataError) -> None:
        """Notes an example by a key of its own.

        Raises:
          DataError: it is one too many; names them all.
        """
        with self._lock:
            if key in self._messages:
                return
            self._messages[key] = str(error)
            if len(self._messages) > self._allowed:
                listed = "".join(f"\n  {message}" for message in self.messages)
                raise DataError(
                    f"{len(self._messages)} examples cannot be read, and data.skip_bad = {self._allowed} allows for "
                    f"{self._allowed}:{listed}"
                ) from error
            self._announce(f"skipped ({len(self._messages)} of {self._allowed}): {error}")


@dataclasses.dataclass(frozen=True)
class Skipping:
    """The examples of `source`, with the next readable one in the place of each that is not.

    Attributes:
      source: the examples.
      bad: where unreadable ones are noted.
      split: what the split is called; the same index of another split is another example.
      ignored: the example that steps in has all of its label ignored: an evaluation counts every example once.
    """

    source: Source
    bad: BadExamples
    split: str
    ignored: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        for ahead in range(len(self)):
            place = (index + ahead) % len(self)
            try:
                example = self.source[place]
            except ChangedFile:
                # Passing over it would change batches that a resumed run has to meet again.
                raise
            except DataError as error:
                self.bad.add((self.split, place), error)
                continue
            if ahead and self.ignored:
                return {**example, "label": np.full_like(example["label"], IGNORE_LABEL)}
            return example
        raise DataError(f"the split {self.split!r}: none of its {len(self)} examples can be read")

    def id_of(self, index: int) -> str:
        """As `identity`; also of an example that cannot be read."""
        return identity(self.source, index)

    def digest(self) -> str:
        """As `digest`."""
        return digest(self.source)

    def reduced_to(self, size: tuple[int, int]) -> "Skipping":
        """As `reduced`."""
        return dataclasses.replace(self, source=reduced(self.source, size))
