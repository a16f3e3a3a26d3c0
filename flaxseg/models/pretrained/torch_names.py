"""Converts names and layouts of PyTorch tensors to those of flaxseg's parameters."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

TorchNames = Sequence[tuple[str, str | None]]
"""Maps PyTorch modules to those of flaxseg: pairs of a regular expression and a path.

The expression matches the whole name of a PyTorch module, without `.weight` and the like. The path names the same
module in flaxseg, with groups as `\\1`; None: flaxseg has no such module, such as an encoder's classifier. The first
matching pair is used."""

_LEAVES = re.compile(r"(.*)\.(weight|bias|running_mean|running_var|num_batches_tracked)")
_TRANSPOSED = ":transposed"
"""Suffix of the path of a transposed convolution, whose kernel PyTorch stores as [in, out, kh, kw]."""


def convert_tensors(
    tensors: Mapping[str, np.ndarray], names: TorchNames
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Returns PyTorch tensors as arrays by flaxseg's paths, and the shapes of tensors without a path.

    Args:
      tensors: by their PyTorch name, such as `layer1.0.conv1.weight`.
      names: which module is which. An expression can also match a whole tensor name that does not end in `.weight`,
        `.bias` or the like. A path that ends in `:transposed` is that of a transposed convolution.

    Returns:
      Arrays by path, such as `params/layer1_block0/conv1/conv/kernel` or `batch_stats/...`; and the shapes, by
      PyTorch name, of the tensors that no expression matches.
    """
    found, unknown = {}, {}
    for name, tensor in tensors.items():
        split = _LEAVES.fullmatch(name)
        module, leaf = (split[1], split[2]) if split else (name, "")
        matches = ((re.fullmatch(pattern, module), path) for pattern, path in names)
        rule = next(((match, path) for match, path in matches if match), None)
        if rule is None:
            unknown[name] = tensor.shape
        elif rule[1] is not None and leaf != "num_batches_tracked":
            path = rule[0].expand(rule[1])
            collection, key, value = _variable(leaf, tensor, transposed=path.endswith(_TRANSPOSED))
            found["/".join(filter(None, (collection, path.removesuffix(_TRANSPOSED), key)))] = value
    return found, unknown


def nested(prefix: str, path: str, names: Iterable[tuple[str, str | None]]) -> TorchNames:
    """Returns the names of modules that are nested in another one.

    Args:
      prefix: a regular expression for the outer module's name in PyTorch, with its dot.
      path: the outer module's path in flaxseg; "" for the model itself.
      names: the names within the outer module.
    """
    return [
        (f"{prefix}(?:{pattern})", None if target is None else "/".join(filter(None, (path, target))))
        for pattern, target in names
    ]


def _variable(leaf: str, tensor: np.ndarray, *, transposed: bool) -> tuple[str, str, np.ndarray]:
    """Returns collection, name and value of a tensor; kernels are [kh, kw, in, out] or [in, out]."""
    if leaf.startswith("running_"):
        return "batch_stats", leaf.removeprefix("running_"), tensor
    if leaf != "weight":
        return "params", leaf, tensor
    if tensor.ndim == 4 and transposed:
        # PyTorch flips the kernel of a transposed convolution, and Flax does not.
        return "params", "kernel", tensor.transpose(2, 3, 0, 1)[::-1, ::-1]
    if tensor.ndim == 4:
        return "params", "kernel", tensor.transpose(2, 3, 1, 0)
    if tensor.ndim == 2:
        return "params", "kernel", tensor.T
    return "params", "scale", tensor
