"""The check of a configuration that finds every error at once, before any device or file is touched."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.schema import OPTION_KEYS, default_config
from flaxseg.config.value_checks import OF_THEIR_OWN, is_number, value_errors
from flaxseg.data import DATASETS
from flaxseg.errors import ArgumentError, ConfigError, did_you_mean
from flaxseg.losses import LOSSES
from flaxseg.models import MODELS
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES
from flaxseg.registry import look_up, option_errors


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
    return (
        sorted(wrong.values())
        + value_errors({key: value for key, value in _fixed_leaves(config) if key in checked})
        + _option_errors(config, checked)
    )


def raise_all(messages: list[str]) -> None:
    """Raises one ConfigError that lists every message; nothing when there is none."""
    if messages:
        count = "1 error" if len(messages) == 1 else f"{len(messages)} errors"
        raise ConfigError(f"{count} in the configuration:\n" + "\n".join(f"  {message}" for message in messages))


@contextlib.contextmanager
def config_key(group: str, **renamed: str) -> Iterator[None]:
    """Puts the configuration key in front of what a library function raises about its arguments.

    `with config_key("optimizer", name="schedule"): make_schedule(...)` turns `name = 'cosin': unknown` into
    `config.optimizer.schedule = 'cosin': unknown`.

    Args:
      group: the group of keys that holds the function's arguments; "" for keys at the top.
      **renamed: the key of each argument that is called differently from its key.

    Raises:
      ConfigError: instead of an ArgumentError.
    """
    try:
        yield
    except ArgumentError as error:
        argument, dot, rest = error.argument.partition(".")
        key = ".".join(filter(None, (group, renamed.get(argument, argument) + dot + rest)))
        raise ConfigError(f"config.{key} = {error.value!r}: {error.problem}") from error


def _structure_errors(config: ConfigDict) -> dict[str, str]:
    """Returns a message for each key that is unknown, missing or of another type than the default."""
    expected = dict(_fixed_leaves(default_config()))
    actual, messages = dict(_fixed_leaves(config)), {}
    for key in expected.keys() - set(OPTION_KEYS):
        # A group where a value belongs is told as that, and not by what it holds.
        if isinstance(value := _at(config, key), ConfigDict):
            allowed = OF_THEIR_OWN[key][1] if key in OF_THEIR_OWN else f"must be a {_type_name(expected[key])}"
            messages[key] = f"config.{key} = {value.to_dict()}: {allowed}"
            actual = {name: v for name, v in actual.items() if not name.startswith(f"{key}.")}
    expected = {key: value for key, value in expected.items() if key not in messages}
    for key in actual.keys() - expected.keys():
        messages[key] = f"config.{key} = {actual[key]!r}: no such key{did_you_mean(key, expected)}"
    for key, default in expected.items():
        if key not in actual:
            messages[key] = f"config.{key} is missing: start from default_config(), which sets it to {default!r}"
        elif key not in OF_THEIR_OWN and not _is_like(actual[key], default):
            kind = _type_name(default)
            messages[key] = f"config.{key} = {actual[key]!r}: must be a {kind}, as the default {default!r} is"
    return messages


def _at(config: ConfigDict, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, ConfigDict) else None
    return config


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
        return f"tuple of {len(value)} numbers" if all(is_number(v) for v in value) else "sequence"
    names = (
        (bool, "truth value"),
        (int, "whole number"),
        (float, "number"),
        (str, "text"),
        (ConfigDict, "group of keys"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def _option_errors(config: ConfigDict, keys: set[str]) -> list[str]:
    """Returns a message for each unknown name, and each option that the function of that name does not take."""
    messages: list[str] = []
    for key, options_key, table, given in (
        ("data.name", "data.options", DATASETS, ("data_dir",)),
        ("model.name", "model.options", MODELS, ("num_classes", "dtype")),
        ("optimizer.name", "optimizer.options", OPTIMIZERS, ()),
        ("optimizer.schedule", "optimizer.schedule_options", SCHEDULES, ()),
    ):
        if {key, options_key} <= keys:
            values = dict(_fixed_leaves(config))
            messages += _errors_of(
                values[key], table, f"config.{key}", values[options_key], f"config.{options_key}", given
            )
    if {"loss", "loss_options"} <= keys:
        messages += _loss_errors(config)
    return messages


def _errors_of(
    name: str, table: Mapping[str, Callable[..., Any]], key: str, options: Any, options_key: str, given: Sequence[str]
) -> list[str]:
    try:
        function = look_up(name, table, argument=key)
        messages = option_errors(function, options, key=options_key, given=given)
        # A network is built from numbers alone, so that building it tells what else is wrong with them.
        if name in table and not messages:
            if table is MODELS:
                function(num_classes=2, **options)
            elif table is SCHEDULES:
                function(1.0, sys.maxsize, **options)
            elif table is OPTIMIZERS:
                function(float, 0.0, **options)
    except (ArgumentError, ConfigError) as error:
        return [
            f"{options_key}{'.' if table in (SCHEDULES, OPTIMIZERS) else ': '}{error}"
            if not str(error).startswith("config.")
            else str(error)
        ]
    return messages


def _loss_errors(config: ConfigDict) -> list[str]:
    messages = []
    for name, weight in config.loss.items():
        options = config.loss_options.get(name, {})
        messages += _errors_of(name, LOSSES, "config.loss", options, f"config.loss_options.{name}", ())
        if not is_number(weight) or weight < 0:
            messages.append(f"config.loss.{name} = {weight!r}: must be a weight of at least 0")
    if not any(is_number(weight) and weight > 0 for weight in config.loss.values()):
        messages.append("config.loss: no loss has a weight above 0; there would be nothing to learn from")
    messages += [
        f"config.loss_options.{name}: config.loss has no weight for it{did_you_mean(name, config.loss)}"
        for name in config.loss_options
        if name not in config.loss
    ]
    return messages
