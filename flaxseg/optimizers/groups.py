"""Groups of parameters, selected by patterns of their paths: frozen parameters and learning-rate multipliers."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from flaxseg.errors import ArgumentError
from flaxseg.optimizers.algorithms import decay_mask

IsFrozen = Callable[[str], bool]
"""Returns whether the parameter at a path, or the whole module at that path, is frozen."""


def matches(pattern: str, path: str) -> bool:
    """Returns whether a pattern selects the parameter or module at a path.

    Args:
      pattern: a regular expression that matches the whole path, or its leading names: `encoder` selects the whole
        encoder, `encoder/(stem|layer1_.*)` some of its modules, `.*/bias` every bias.
      path: names joined by /, such as `encoder/stem/conv/kernel`.
    """
    return re.match(rf"(?:{pattern})(?:/|$)", path) is not None


def freezing(patterns: Sequence[str] | str) -> IsFrozen | None:
    """Returns the function `frozen(path) -> bool` that is True for paths that match a pattern.

    Args:
      patterns: one pattern or several, as for `matches`. Without any pattern the result is None: nothing is frozen.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return (lambda path: any(matches(pattern, path) for pattern in patterns)) if patterns else None


def with_frozen_parameters(tx: optax.GradientTransformation, frozen: IsFrozen) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that leaves frozen parameters unchanged.

    Frozen parameters get updates of zero and need no memory in the optimizer's state. `tx` sees only the other
    parameters, so that the global norm of a clipped gradient, for example, excludes frozen ones. Additional keyword
    arguments of `update`, such as `value`, are passed on to `tx`.

    Args:
      tx: any optax optimizer.
      frozen: `frozen(path)` returns whether the parameter at that path is frozen, as `freezing` makes it.
    """

    def labels(params: Any) -> Any:
        return _map_with_path(lambda path, _: "frozen" if frozen(path) else "learning", params)

    return optax.partition({"learning": tx, "frozen": optax.set_to_zero()}, labels)


@dataclasses.dataclass(frozen=True)
class LearningRateMultipliers:
    """Factors by which the learning rate of each parameter is multiplied.

    Attributes:
      by_pattern: pairs of a pattern, as for `matches`, and a factor. If several patterns match a parameter, the last
        one applies.
      layer_decay: layer-wise learning-rate decay (Howard & Ruder 2018, https://arxiv.org/abs/1801.06146; Bao et al.
        2022, https://arxiv.org/abs/2106.08254): each encoder module has the learning rate of the next one times this
        factor, and the last module has the base learning rate times this factor. Parameters outside the encoder are
        unaffected.
      layers: the names of the encoder's modules in the order of the forward pass, as from `encoder_layers`.
    """

    by_pattern: Sequence[tuple[str, float]] = ()
    layer_decay: float = 1.0
    layers: tuple[str, ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether every parameter has the base learning rate."""
        return not self.by_pattern and self.layer_decay == 1

    def multiplier(self, path: str) -> float:
        """Returns the learning-rate multiplier of the parameter at a path."""
        factors = [factor for pattern, factor in self.by_pattern if matches(pattern, path)]
        first, _, rest = path.partition("/")
        depth = len(self.layers) - self.layers.index(rest.split("/")[0]) if first == "encoder" and self.layers else 0
        return (factors[-1] if factors else 1.0) * self.layer_decay**depth

    def transformation(self) -> optax.GradientTransformation:
        """Returns the optax transformation that multiplies updates, the learning rate included, by the factors."""
        return optax.stateless(lambda updates, _: _map_with_path(lambda path, u: self.multiplier(path) * u, updates))


def encoder_layers(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the encoder's modules in the order of the forward pass; empty without an encoder.

    This is the order of the keys of `params["encoder"]` as `model.init` creates them. JAX transformations return
    dicts with sorted keys, so call this inside the transformed function.
    """
    return tuple(params.get("encoder", ()))


def check_patterns(argument: str, patterns: Sequence[str], params: Any) -> None:
    """Checks that every pattern matches a parameter.

    Args:
      argument: the name that the error gives to the patterns.
      patterns: patterns, as for `matches`.
      params: the network's parameters.

    Raises:
      ArgumentError: a pattern that matches nothing, or is not a regular expression.
    """
    paths = list(traverse_util.flatten_dict(params, sep="/"))
    for pattern in patterns:
        try:
            found = any(matches(pattern, path) for path in paths)
        except re.error as error:
            raise ArgumentError(argument, pattern, f"is not a valid regular expression: {error}") from None
        if not found:
            names = sorted({"/".join(path.split("/")[:2]) for path in paths})
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise ArgumentError(
                argument,
                pattern,
                "matches no parameter; a pattern must match a path from its beginning up to a / or its end. Paths "
                f"begin with {shown}",
            )


def format_groups(
    params: Any, *, frozen: IsFrozen | None, multipliers: LearningRateMultipliers, weight_decay: float
) -> str:
    """Returns a text table of the groups of parameters that share a learning rate and weight decay.

    Args:
      params: the network's parameters, or their shapes.
      frozen: the frozen parameters, as from `freezing`; None if there are none.
      multipliers: the learning-rate multipliers.
      weight_decay: the weight-decay coefficient of kernels.
    """
    decays = traverse_util.flatten_dict(decay_mask(params), sep="/")
    groups: dict[tuple[str, str, str], list[int]] = {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        first, second = [*path.split("/"), ""][:2]
        is_frozen = frozen is not None and frozen(path)
        # One row for the whole encoder, unless its modules have learning rates of their own.
        by_layer = multipliers.layer_decay != 1 and first == "encoder" and not is_frozen
        name = f"{first}/{second}" if by_layer else first
        rate = "frozen" if is_frozen else f"x {multipliers.multiplier(path):.4g}"
        decay = f"{weight_decay:g}" if decays[path] and not is_frozen else "-"
        groups.setdefault((name, rate, decay), []).append(int(np.prod(leaf.shape)))
    rows = [("parameters of", "arrays", "values", "learning rate", "weight decay")]
    rows += [(name, f"{len(sizes):,}", f"{sum(sizes):,}", rate, decay) for (name, rate, decay), sizes in groups.items()]
    return _align_columns(rows)


def _align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Joins rows into lines of aligned columns; the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(cells) for cells in lines)


def _map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
    name = lambda part: str(getattr(part, "key", part))  # noqa: E731
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function("/".join(map(name, path)), leaf), tree)
