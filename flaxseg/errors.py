"""Errors that a user's input causes: one clear message each, shown by the commands without a stack trace."""

from collections.abc import Mapping, Sequence


class FlaxsegError(ValueError):
    """Something given to flaxseg cannot be used; the message names it, what is allowed, and the remedy."""


class ConfigError(FlaxsegError):
    """A key or value of the configuration is wrong; the message lists every one found."""


class DataError(FlaxsegError):
    """A dataset, picture or mask cannot be used; the message names the file or folder."""


class ChangedFile(DataError):
    """A file of the dataset is another than when a run first read it."""


class UnknownValues(DataError):
    """A mask holds values that stand for no class and are not ignored.

    Attributes:
      counts: each value that the mask holds, with the number of its pixels.
      values: the mask value of each class in turn, or a tuple of those that stand for it.
      ignore_values: the mask values of pixels that nothing counts.
    """

    def __init__(
        self,
        message: str,
        *,
        counts: Mapping[int, int],
        values: Sequence[int | tuple[int, ...]],
        ignore_values: Sequence[int],
    ) -> None:
        super().__init__(message)
        self.counts = dict(counts)
        self.values = tuple(values)
        self.ignore_values = tuple(ignore_values)


class UnknownColors(DataError):
    """A mask holds colors that stand for no class and are not ignored.

    Attributes:
      counts: the most frequent of these colors, with the number of their pixels.
      colors: the color of each class in turn; empty where none were named.
      ignore_colors: the colors of pixels that nothing counts.
    """

    def __init__(
        self,
        message: str,
        *,
        counts: Mapping[tuple[int, int, int], int],
        colors: Sequence[tuple[int, int, int]] = (),
        ignore_colors: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        super().__init__(message)
        self.counts = dict(counts)
        self.colors = tuple(colors)
        self.ignore_colors = tuple(ignore_colors)


class CheckpointError(FlaxsegError):
    """A checkpoint or working directory does not fit the run; the message names what differs."""


class TrainingError(FlaxsegError):
    """Training cannot go on; the message names the step."""


class WeightsError(FlaxsegError):
    """A weights file cannot be used; the message names it."""
