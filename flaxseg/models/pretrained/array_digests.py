"""The digests of the arrays of a checkpoint, taken from memory, which tell whether what is read is what was saved.

The SHA-256 of its files, in the manifest, notices what changes after they were written; these digests also notice what
goes wrong before: on the way from memory to the disk and back.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

ArrayDigests = Mapping[str, Mapping[str, str]]
"""The SHA-256 of each part of each array: by the path of the array, and by the place of the part, as in `0:4,0:8`."""

Part = tuple[str, str, np.ndarray]
"""The path of an array, the place of a part in it, and its values."""


def leaves_by_path(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yields the path of each array of a tree, as in `params/head/kernel`, and the array."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if hasattr(leaf, "shape"):
            # Attributes, keys and indices look alike, because Orbax turns dataclasses and tuples into dicts and lists.
            names = (getattr(part, "name", getattr(part, "key", getattr(part, "idx", part))) for part in path)
            yield "/".join(map(str, names)), leaf


def held_parts(tree: Any) -> list[Part]:
    """Returns the parts of arrays that this process holds, each once, in host memory.

    Nothing is copied where the values are in host memory already, as on CPU, or after whole arrays were copied there.

    Args:
      tree: any tree of arrays, of jax or NumPy.
    """
    return [(path, place, values) for path, leaf in leaves_by_path(tree) for place, values in _shards(leaf)]


def digests_of(parts: list[Part]) -> ArrayDigests:
    """Returns the digest of each part."""
    found: dict[str, dict[str, str]] = {}
    for path, place, values in parts:
        found.setdefault(path, {})[place] = _digest(values)
    return found


def merged(digests: list[ArrayDigests]) -> ArrayDigests:
    """Returns the digests of several processes as one."""
    found: dict[str, dict[str, str]] = {}
    for each in digests:
        for path, parts in each.items():
            found.setdefault(path, {}).update(parts)
    return found


def find_changed(tree: Any, digests: ArrayDigests) -> str:
    """Returns the path of the first array that differs from its digest; "" if there is none.

    Parts that this process does not hold entirely, and arrays without a digest, are not checked.

    Args:
      tree: any tree of arrays, of jax or NumPy; they may be sharded in another way than when they were saved.
      digests: from `digests_of`.
    """
    for path, leaf in leaves_by_path(tree):
        for place, digest in digests.get(path, {}).items():
            values = _held(leaf, place)
            if values is not None and _digest(values) != digest:
                return path
    return ""


def _shards(leaf: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the place and the values of the parts of an array that this process holds, each once."""
    if not isinstance(leaf, jax.Array):
        yield _place((slice(None),) * np.ndim(leaf), np.shape(leaf)), np.asarray(leaf)
        return
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            yield _place(shard.index, leaf.shape), np.asarray(shard.data)


def _digest(values: np.ndarray) -> str:
    digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    # The bytes of bfloat16 arrays cannot be read without a view.
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _place(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    bounds = (part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
    return ",".join(f"{start}:{stop}" for start, stop in bounds)


def _held(leaf: Any, place: str) -> np.ndarray | None:
    """Returns a part of an array; None if this process does not hold all of it, or the array is too small."""
    bounds = [tuple(map(int, part.split(":"))) for part in place.split(",") if part]
    if len(bounds) != len(leaf.shape) or any(stop > size for (_, stop), size in zip(bounds, leaf.shape, strict=True)):
        return None
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return np.asarray(leaf)[tuple(slice(*bound) for bound in bounds)]
    for shard in leaf.addressable_shards:
        held = [part.indices(size)[:2] for part, size in zip(shard.index, leaf.shape, strict=True)]
        if all(first <= start and stop <= last for (start, stop), (first, last) in zip(bounds, held, strict=True)):
            inner = (slice(start - first, stop - first) for (start, stop), (first, _) in zip(bounds, held, strict=True))
            return np.asarray(shard.data)[tuple(inner)]
    return None
