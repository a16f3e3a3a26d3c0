"""Groups of parameters by their paths: which stay as they are, and which learn at another rate."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from flaxseg.errors import ConfigError
from flaxseg.optimizers.algorithms import decay_mask

IsFrozen = Callable[[str], bool]
"""Whether the parameter, or everything below the module, of this path stays as it is."""


def covers(pattern: str, path: str) -> bool:
    """Returns whether a pattern is of a parameter or module.

    Args:
      pattern: a regular expression of a whole path, or of its first names: `encoder` covers all of the encoder,
        `encoder/(stem|layer1_.*)` some of its modules, `.*/bias` every bias.
      path: names with / between them, such as `encoder/stem/conv/kernel`.
    """
    return re.match(rf"(?:{pattern})(?:/|$)", path) is not None


def freezing(patterns: Sequence[str] | str) -> IsFrozen | None:
    """Returns which paths one of the patterns, or the only one, covers; None without any."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return (lambda path: any(covers(pattern, path) for pattern in patterns)) if patterns else None


@dataclasses.dataclass(frozen=True)
class RateScales:
    """What the learning rate of each parameter is multiplied by.

    Attributes:
      by_pattern: pairs of a pattern, as of covers(), and a factor; of several that cover a parameter the last counts.
      layer_decay: the factor of each encoder module to the one after it: layer-wise learning-rate decay (Howard &
        Ruder 2018, https://arxiv.org/abs/1801.06146; Bao et al. 2022, https://arxiv.org/abs/2106.08254). The last
        has it once, the first as often as there are modules, and what is no encoder not at all.
      layers: the encoder's modules, in the order in which the network calls them, as from encoder_layers().
    """

    by_pattern: Sequence[tuple[str, float]] = ()
    layer_decay: float = 1.0
    layers: tuple[str, ...] = ()

    def of(self, path: str) -> float:
        """Returns the factor of the parameter of this path."""
        factors = [factor for pattern, factor in self.by_pattern if covers(pattern, path)]
        first, _, rest = path.partition("/")
        after = len(self.layers) - self.layers.index(rest.split("/")[0]) if first == "encoder" and self.layers else 0
        return (factors[-1] if factors else 1.0) * self.layer_decay**after

    def transformation(self) -> optax.GradientTransformation:
        """Returns what scales updates, which are already steps, by the factors."""
        return optax.stateless(lambda updates, _: _map_with_path(lambda path, u: self.of(path) * u, updates))


def encoder_layers(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of an encoder's modules in the order of their dict, which model.init() makes as it calls them.

    A dict that came out of a JAX transformation has its keys sorted; look at it inside.
    """
    return tuple(params.get("encoder", ()))


def check_patterns(key: str, patterns: Sequence[str], params: Any) -> None:
    """Checks that every pattern covers a parameter.

    Raises:
      ConfigError: one that does not, or is no regular expression.
    """
    paths = list(traverse_util.flatten_dict(params, sep="/"))
    for pattern in patterns:
        try:
            found = any(covers(pattern, path) for path in paths)
        except re.error as error:
            raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None
        if not found:
            names = sorted({"/".join(path.split("/")[:2]) for path in paths})
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise ConfigError(
                f"{key}: {pattern!r} covers no parameter; it has to match a path from its beginning, up to a / or the "
                f"end. Paths begin with {shown}"
            )


def split(params: Any, frozen: IsFrozen | None) -> tuple[Any, Any]:
    """Returns two trees: the parameters that learn, and those that are frozen; merged() undoes it."""
    if frozen is None:
        return params, {}
    flat = traverse_util.flatten_dict(params)
    parts: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
    for path, value in flat.items():
        parts[frozen("/".join(path))][path] = value
    learning, fixed = map(traverse_util.unflatten_dict, parts)
    return learning, fixed


def merged(learning: Any, fixed: Any) -> Any:
    """Returns the tree that split() made two of."""
    if not fixed:
        return learning
    return traverse_util.unflatten_dict({**traverse_util.flatten_dict(learning), **traverse_util.flatten_dict(fixed)})


def table(params: Any, *, frozen: IsFrozen | None, scales: RateScales, weight_decay: float) -> str:
    """Returns a text table of the groups: where they lie, how many parameters, their rate and weight decay."""
    decays = traverse_util.flatten_dict(decay_mask(params), sep="/")
    groups: dict[tuple[str, str, str], list[int]] = {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        first, second = [*path.split("/"), ""][:2]
        is_frozen, scale = frozen is not None and frozen(path), scales.of(path)
        # As coarse as can be: a module of the encoder only where it has a rate of its own.
        where = f"{first}/{second}" if scales.layer_decay != 1 and first == "encoder" and not is_frozen else first
        rate = "frozen" if is_frozen else f"x {scale:.4g}"
        decay = f"{weight_decay:g}" if decays[path] and not is_frozen else "-"
        groups.setdefault((where, rate, decay), []).append(int(np.prod(leaf.shape)))
    rows = [("parameters of", "arrays", "values", "learning rate", "weight decay")]
    rows += [
        (where, f"{len(sizes):,}", f"{sum(sizes):,}", rate, decay) for (where, rate, decay), sizes in groups.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _map_with_path(function: Callable[[str, jax.Array], Any], tree: Any) -> Any:
    name = lambda part: str(getattr(part, "key", part))  # noqa: E731
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function("/".join(map(name, path)), leaf), tree)
