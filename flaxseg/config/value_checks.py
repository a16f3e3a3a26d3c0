"""What the values of single keys of a configuration may be."""

import functools
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flaxseg.augment.color import CHANGES, PROBABILITIES
from flaxseg.augment.spatial import MOVES
from flaxseg.data.class_weights import WEIGHTINGS
from flaxseg.errors import did_you_mean
from flaxseg.metrics import METRICS, SCORES

AT_LEAST = {
    "seed": 0,
    "data.num_threads": -1,
    "data.prefetch": 1,
    "data.skip_bad": 0,
    "optimizer.learning_rate": 0,
    "optimizer.warmup_steps": 0,
    "optimizer.weight_decay": 0,
    "optimizer.grad_clip": 0,
    "optimizer.accumulate_steps": 1,
    "train.batch_size": 1,
    "train.steps": 0,
    "train.epochs": 0,
    "train.early_stop": 0,
    "eval.every": 0,
    "eval.batch_size": 1,
    "checkpoint.every": 0,
    "checkpoint.keep": 1,
    "log.every": 1,
    "log.pictures": 0,
    "log.hardest": 0,
    "mesh.fsdp": 1,
    "mesh.spatial": 1,
}

LARGEST = {f"augment.{name}": largest for name, largest in MOVES.items()}
LARGEST |= {f"augment.{name}": 1.0 if name in PROBABILITIES else math.inf for name in CHANGES}
LARGEST |= {"augment.cutmix": 1.0}
"""Keys that are off at 0, with the largest value of each."""

CHOICES: dict[str, Sequence[str]] = {
    "data.cache": ("none", "host", "device"),
    "train.precision": ("float32", "bfloat16"),
    "eval.resolution": ("native", "image_size"),
    "checkpoint.best_metric": tuple(SCORES),
}


NAMES: dict[str, Collection[str]] = {"class_weights": WEIGHTINGS, "eval.metrics": METRICS}
"""Keys of OF_THEIR_OWN that take names, with the names."""


def _nearest(key: str, value: Any) -> str:
    """Returns the name that the first of a value that is none may have meant."""
    given = [value] if isinstance(value, str) else value if isinstance(value, tuple | list) else []
    unknown = [name for name in given if isinstance(name, str) and name not in NAMES.get(key, (name,))]
    return did_you_mean(unknown[0], NAMES[key]) if unknown else ""


def _are_class_weights(value: Any) -> bool:
    if isinstance(value, str):
        return value == "none" or value in WEIGHTINGS
    return _is_sequence_of(value, is_number) and min(value) >= 0 and 0 < sum(value) < math.inf


def _are_rate_scales(value: Any) -> bool:
    def is_pair(item: Any) -> bool:
        return isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str) and _is_factor(item[1])

    return value in ((), []) or _is_sequence_of(value, is_pair)


def _is_factor(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf


def _are_names(allowed: Collection[str] | None, value: Any) -> bool:
    return value in ((), []) or _is_sequence_of(
        value, lambda item: isinstance(item, str) and (allowed is None or item in allowed)
    )


def _is_sequence_of(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(map(holds, value))


OF_THEIR_OWN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "class_weights": (
        _are_class_weights,
        f"must be 'none', {', '.join(map(repr, WEIGHTINGS))}, or a number for each class, at least 0 and not all 0",
    ),
    "optimizer.freeze": (
        functools.partial(_are_names, None),
        "must be a sequence of patterns, as in ('encoder',)",
    ),
    "optimizer.lr_scale": (
        _are_rate_scales,
        "must be pairs of a pattern and a factor above 0, as in (('encoder', 0.1),); what is not to learn at all is "
        "named in config.optimizer.freeze",
    ),
    "eval.metrics": (
        functools.partial(_are_names, METRICS),
        f"must be a sequence of {', '.join(METRICS)}, as in ('per_image',)",
    ),
}
"""Keys whose values are of no one type, each with its check and what is allowed."""


def value_errors(values: Mapping[str, Any]) -> list[str]:
    """Returns a message for each impossible value.

    Args:
      values: those of the right type, by their full keys.
    """
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "data.image_size": (lambda v: all(isinstance(s, int) and s >= 1 for s in v), "must be whole numbers above 0"),
        "augment.scale": (lambda v: 0 < v[0] <= v[1], "must be two numbers above 0, the smaller first"),
        "mesh.data": (lambda v: v == -1 or v >= 1, "must be at least 1, or -1 for all devices that are left"),
        "optimizer.ema_decay": (lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
        "optimizer.layer_decay": (lambda v: 0 < v <= 1, "must be above 0 and at most 1, which is without"),
        **OF_THEIR_OWN,
    }
    checks |= {key: (functools.partial(operator.le, low), f"must be at least {low}") for key, low in AT_LEAST.items()}
    for key, largest in LARGEST.items():
        allowed = "at least 0" if largest == math.inf else f"at least 0 and at most {largest:g}"
        checks[key] = (functools.partial(_is_within, largest), f"must be {allowed}")
    messages = [
        f"config.{key} = {values[key]!r}: {allowed}{_nearest(key, values[key])}"
        for key, (holds, allowed) in checks.items()
        if key in values and not holds(values[key])
    ]
    messages += [
        f"config.{key} = {values[key]!r}: must be one of {', '.join(allowed)}{did_you_mean(values[key], allowed)}"
        for key, allowed in CHOICES.items()
        if key in values and values[key] not in allowed
    ]
    if values.get("train.steps") == 0 and values.get("train.epochs") == 0:
        messages.append("config.train.steps = 0 and config.train.epochs = 0: one of them has to be above 0")
    return messages + _batch_errors(values)


def _is_within(largest: float, value: float) -> bool:
    return 0 <= value <= largest


def _batch_errors(values: Mapping[str, Any]) -> list[str]:
    """Batch sizes against the parts that the mesh asks for; sharding.make_mesh() checks those left open."""
    parts = values.get("mesh.fsdp", 1) * max(values.get("mesh.data", 1), 1)
    return [
        f"config.{key} = {values[key]}: does not divide into the {parts} parts that mesh.data = "
        f"{values.get('mesh.data')} times mesh.fsdp = {values.get('mesh.fsdp')} ask for; use a multiple of {parts}"
        for key in ("train.batch_size", "eval.batch_size")
        if key in values and parts > 0 and values[key] % parts
    ]


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
