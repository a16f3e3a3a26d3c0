"""The check of a configuration that finds every error at once, before any device or file is touched."""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.colour import CHANGES, PROBABILITIES
from flaxseg.config import OPTION_KEYS, default_config
from flaxseg.data import DATASETS
from flaxseg.errors import ConfigError
from flaxseg.geometry import MOVES
from flaxseg.lookup import did_you_mean, look_up, option_errors
from flaxseg.losses import LOSSES
from flaxseg.metrics import SCORES
from flaxseg.models import MODELS
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES


def validate(config: ConfigDict) -> None:
    """Checks a configuration without touching a device or a file.

    Raises:
      ConfigError: unknown or missing keys, wrong types, impossible values, unknown names and options: every one
        found, each with its full key, its value, what is allowed, and the nearest name.
    """
    raise_all(errors_in(config))


def errors_in(config: ConfigDict) -> list[str]:
    """Returns the message of each error that validate() finds."""
    if not isinstance(config, ConfigDict):
        return [f"the configuration is {config!r}: get_config() has to return the ConfigDict of default_config()"]
    wrong = _structure_errors(config)
    checked = {key for key, _ in _fixed_leaves(default_config())} - wrong.keys()
    return sorted(wrong.values()) + _value_errors(config, checked) + _option_errors(config, checked)


def raise_all(messages: list[str]) -> None:
    """Raises one ConfigError that lists every message; nothing when there is none."""
    if messages:
        count = "1 error" if len(messages) == 1 else f"{len(messages)} errors"
        raise ConfigError(f"{count} in the configuration:\n" + "\n".join(f"  {message}" for message in messages))


def _structure_errors(config: ConfigDict) -> dict[str, str]:
    """Returns a message for each key that is unknown, missing or of another type than the default."""
    expected = dict(_fixed_leaves(default_config()))
    actual = dict(_fixed_leaves(config))
    messages = {}
    for key in actual.keys() - expected.keys():
        messages[key] = f"config.{key} = {actual[key]!r}: no such key{did_you_mean(key, expected)}"
    for key, default in expected.items():
        if key not in actual:
            messages[key] = f"config.{key} is missing: start from default_config(), which sets it to {default!r}"
        elif not _is_like(actual[key], default):
            kind = _type_name(default)
            messages[key] = f"config.{key} = {actual[key]!r}: must be a {kind}, as the default {default!r} is"
    return messages


def _is_like(value: Any, default: Any) -> bool:
    kind, expected = _type_name(value), _type_name(default)
    numbers = value if isinstance(value, tuple | list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return False
    return kind == expected or (expected == "number" and kind == "whole number")


def _fixed_leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the keys that default_config() can list, with the groups of OPTION_KEYS whole."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, ConfigDict) and key not in OPTION_KEYS:
            yield from _fixed_leaves(value, f"{key}.")
        else:
            yield key, value


def _type_name(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"tuple of {len(value)} numbers" if all(_is_number(v) for v in value) else "sequence"
    names = (
        (bool, "truth value"),
        (int, "whole number"),
        (float, "number"),
        (str, "text"),
        (ConfigDict, "group of keys"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


AT_LEAST = {
    "seed": 0,
    "data.num_threads": -1,
    "data.prefetch": 1,
    "data.skip_bad": 0,
    "optimizer.learning_rate": 0,
    "optimizer.warmup_steps": 0,
    "optimizer.weight_decay": 0,
    "optimizer.grad_clip": 0,
    "train.batch_size": 1,
    "train.steps": 0,
    "train.epochs": 0,
    "eval.every": 0,
    "eval.batch_size": 1,
    "checkpoint.every": 0,
    "checkpoint.keep": 1,
    "log.every": 1,
    "log.pictures": 0,
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
    "optimizer.schedule": tuple(SCHEDULES),
    "optimizer.name": tuple(OPTIMIZERS),
    "checkpoint.best_metric": tuple(SCORES),
}


def _value_errors(config: ConfigDict, keys: set[str]) -> list[str]:
    """Returns a message for each impossible value among these keys, which are those of the right type."""
    values = {key: value for key, value in _fixed_leaves(config) if key in keys}
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "data.image_size": (lambda v: all(isinstance(s, int) and s >= 1 for s in v), "must be whole numbers above 0"),
        "augment.scale": (lambda v: 0 < v[0] <= v[1], "must be two numbers above 0, the smaller first"),
        "mesh.data": (lambda v: v == -1 or v >= 1, "must be at least 1, or -1 for all devices that are left"),
        "optimizer.ema_decay": (lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    }
    checks |= {key: (functools.partial(operator.le, low), f"must be at least {low}") for key, low in AT_LEAST.items()}
    for key, largest in LARGEST.items():
        allowed = "at least 0" if largest == math.inf else f"at least 0 and at most {largest:g}"
        checks[key] = (functools.partial(_is_within, largest), f"must be {allowed}")
    messages = [
        f"config.{key} = {values[key]!r}: {allowed}"
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


def _option_errors(config: ConfigDict, keys: set[str]) -> list[str]:
    """Returns a message for each unknown name, and each option that the function of that name does not take."""
    messages: list[str] = []
    given = {"data": ("data_dir",), "model": ("num_classes", "dtype")}
    for group, table in (("data", DATASETS), ("model", MODELS)):
        if {f"{group}.name", f"{group}.options"} <= keys:
            name, options = config[group].name, config[group].options
            messages += _errors_of(
                name, table, f"config.{group}.name", options, f"config.{group}.options", given[group]
            )
    if {"loss", "loss_options"} <= keys:
        messages += _loss_errors(config)
    return messages


def _errors_of(
    name: str, table: Mapping[str, Callable[..., Any]], key: str, options: Any, options_key: str, given: Sequence[str]
) -> list[str]:
    try:
        function = look_up(name, table, key=key)
        messages = option_errors(function, options, key=options_key, given=given)
        # A network is built from numbers alone, so that building it tells what else is wrong with them.
        if table is MODELS and name in MODELS and not messages:
            function(num_classes=2, **options)
    except ConfigError as error:
        return [f"{options_key}: {error}" if not str(error).startswith("config.") else str(error)]
    return messages


def _loss_errors(config: ConfigDict) -> list[str]:
    messages = []
    for name, weight in config.loss.items():
        options = config.loss_options.get(name, {})
        messages += _errors_of(name, LOSSES, "config.loss", options, f"config.loss_options.{name}", ())
        if not _is_number(weight) or weight < 0:
            messages.append(f"config.loss.{name} = {weight!r}: must be a weight of at least 0")
    if not any(_is_number(weight) and weight > 0 for weight in config.loss.values()):
        messages.append("config.loss: no loss has a weight above 0; there would be nothing to learn from")
    messages += [
        f"config.loss_options.{name}: config.loss has no weight for it{did_you_mean(name, config.loss)}"
        for name in config.loss_options
        if name not in config.loss
    ]
    return messages
