"""From the names and layouts of torch's tensors to those of the parameters here."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from flaxseg.models.encoders import Renames

_LEAVES = re.compile(r"(.*)\.(weight|bias|running_mean|running_var|num_batches_tracked)")
_TRANSPOSED = ":transposed"
"""Ends the path of a transposed convolution, whose kernel torch stores with input and output exchanged."""


def converted(
    tensors: Mapping[str, np.ndarray], renames: Renames
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Arrays by their path here, from tensors by their name in torch.

    Args:
      tensors: such as `layer1.0.conv1.weight`.
      renames: which module is which. A rule can also match a whole name that does not end in `.weight`, `.bias` or the
        like. A path that ends in `:transposed` is that of a transposed convolution.

    Returns:
      Arrays by path, such as `params/layer1_block0/conv1/conv/kernel` or `batch_stats/...`; and the shapes of those
      tensors that no rule matches.
    """
    found, unknown = {}, {}
    for name, tensor in tensors.items():
        split = _LEAVES.fullmatch(name)
        module, leaf = (split[1], split[2]) if split else (name, "")
        matches = ((re.fullmatch(pattern, module), path) for pattern, path in renames)
        rule = next(((match, path) for match, path in matches if match), None)
        if rule is None:
            unknown[name] = tensor.shape
        elif rule[1] is not None and leaf != "num_batches_tracked":
            path = rule[0].expand(rule[1])
            collection, key, value = _variable(leaf, tensor, transposed=path.endswith(_TRANSPOSED))
            found["/".join(filter(None, (collection, path.removesuffix(_TRANSPOSED), key)))] = value
    return found, unknown


def below(prefix: str, path: str, renames: Iterable[tuple[str, str | None]]) -> Renames:
    """The same renames for modules below `prefix` (a regular expression) there and `path` here."""
    return [
        (f"{prefix}(?:{pattern})", None if target is None else "/".join(filter(None, (path, target))))
        for pattern, target in renames
    ]


def _variable(leaf: str, tensor: np.ndarray, *, transposed: bool) -> tuple[str, str, np.ndarray]:
    """Collection, name and value of a tensor: kernels as [kh, kw, in, out] or [in, out]."""
    if leaf.startswith("running_"):
        return "batch_stats", leaf.removeprefix("running_"), tensor
    if leaf != "weight":
        return "params", leaf, tensor
    if tensor.ndim == 4 and transposed:
        # Ours is not turned around, torch's is; there input comes before output.
        return "params", "kernel", tensor.transpose(2, 3, 0, 1)[::-1, ::-1]
    if tensor.ndim == 4:
        return "params", "kernel", tensor.transpose(2, 3, 1, 0)
    if tensor.ndim == 2:
        return "params", "kernel", tensor.T
    return "params", "scale", tensor
