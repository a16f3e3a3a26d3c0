"""The pairs of files of a split, which lists or folders define, or a random choice."""

from flaxseg.data.sources.pairs import Layout, Pair
from flaxseg.data.sources.split_lists import SPLIT, choose_fraction, find_split_lists
from flaxseg.data.types import Selection
from flaxseg.errors import ArgumentError, DataError, number_of

_SPLITS = ("train", "val", "all")
"""The splits of a folder whose files do not define any."""


def split_pairs(layout: Layout, split: str, *, val_fraction: float, seed: int) -> tuple[list[Pair], Selection | None]:
    """Returns the pairs of a split, at least one, and how they were selected; None for all pairs.

    Args:
      layout: the folders and lists.
      split: the name of the split.
      val_fraction: the fraction of the pairs that forms `val` if the files do not define splits.
      seed: seed of the choice of `val`.

    Raises:
      ArgumentError: a split that the files do not define.
      DataError: an empty split, or files that do not match.
    """
    if layout.names_splits:
        return layout.pairs(split), Selection(f"from {_where(layout).replace(SPLIT, split)}")
    if split not in _SPLITS:
        raise ArgumentError(
            "split",
            split,
            f"the folder {layout.root} has no such split; without {{split}} in `images`, `masks` or `split_list`, the "
            f"splits are {', '.join(_SPLITS)}",
        )
    pairs = layout.pairs(split)
    if split == "all":
        return pairs, None
    held_out = choose_fraction((pair.stem for pair in pairs), fraction=val_fraction, seed=seed)
    chosen = [pair for pair in pairs if (pair.stem in held_out) == (split == "val")]
    if not chosen:
        raise DataError(
            f"the split {split!r} of the folder {layout.root} is empty: {number_of(len(pairs), 'pair')} with "
            f"val_fraction={val_fraction}; change val_fraction, or use the split 'all'"
        )
    if split == "val":
        text = f"held out at random from {len(pairs):,} (set split_list to choose them)"
    else:
        text = f"all but {len(held_out):,} held out at random"
    return chosen, Selection(text, find_split_lists(layout.root, layout.split_list))


def _where(layout: Layout) -> str:
    """Returns the path that defines the splits."""
    return next(path for path in (layout.split_list, layout.images, layout.masks) if SPLIT in path)
