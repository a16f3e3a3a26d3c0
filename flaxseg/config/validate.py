"""Validation of a configuration, which reports every error at once, before any device or file is touched."""

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.allowed import Options, as_plain, unusable_parts
from flaxseg.config.callbacks import callback_errors
from flaxseg.config.feature_cache import feature_cache_errors
from flaxseg.config.members import member_errors
from flaxseg.config.other_names import called_here
from flaxseg.config.schema import GROUP_KEYS, KEYS, SCHEMA
from flaxseg.errors import NON_NEGATIVE, ArgumentError, ConfigError, did_you_mean, is_number, nearest, shown
from flaxseg.losses import LOSSES
from flaxseg.losses.terms import find_loss, option_hint
from flaxseg.registry import look_up, option_errors, option_names


def validate(config: ConfigDict) -> None:
    """Checks a configuration without touching a device or a file.

    Raises:
      ConfigError: unknown or missing keys, wrong types, impossible values, unknown names or options. The message
        lists every error, each with its full key, its value, what is allowed, and the nearest name.
    """
    raise_all(errors_in(config))


def errors_in(config: ConfigDict) -> list[str]:
    """Returns the message of each error that validate() finds."""
    if not isinstance(config, ConfigDict):
        return [f"the configuration is {shown(config)}: get_config() must return the ConfigDict of default_config()"]
    messages, valid = _key_errors(config)
    messages += _cross_key_errors(valid) + _option_errors(valid) + _loss_errors(valid)
    return [*messages, *callback_errors(valid)]


def raise_all(messages: list[str]) -> None:
    """Raises one ConfigError that lists every message; returns if there is none."""
    if messages:
        count = "1 error" if len(messages) == 1 else f"{len(messages)} errors"
        raise ConfigError(f"{count} in the configuration:\n" + "\n".join(f"  {message}" for message in messages))


@contextlib.contextmanager
def config_key(group: str, *, others: str = "", **renamed: str) -> Iterator[None]:
    """Puts the configuration key in front of an error that a library function raises about its arguments.

    `with config_key("optimizer", name="schedule"): make_schedule(...)` turns the error `name = 'cosin': unknown` into
    `config.optimizer.schedule = 'cosin': unknown`.

    Args:
      group: the group of keys that holds the function's arguments; "" for keys at the top level.
      others: the group within `group` that holds the arguments without an entry in `renamed`, such as "options".
      **renamed: for each argument whose name differs from its key in the group, the key.

    Raises:
      ConfigError: instead of an ArgumentError.
    """
    try:
        yield
    except ArgumentError as error:
        raise ConfigError(_with_key(error, group, others, renamed)) from error


def _with_key(
    error: ArgumentError, group: str, others: str = "", renamed: Mapping[str, str] = MappingProxyType({})
) -> str:
    argument, dot, rest = error.argument.partition(".")
    name = renamed[argument] if argument in renamed else ".".join(filter(None, (others, argument)))
    key = ".".join(filter(None, (group, name)))
    return f"config.{key}{dot}{rest} = {shown(error.value)}: {error.problem}"


def key_hint(key: str, known: Iterable[str]) -> str:
    """Returns what an error adds about a key that does not exist: what to set instead, or the nearest key."""
    known = list(known)
    section, dot, rest = key.partition(".")
    near = nearest(section, {each.partition(".")[0] for each in known})
    # A group such as `loss` takes other names than those that are set.
    if dot and near != section and (f"{near}.{rest}" in known or near in GROUP_KEYS):
        return f"; did you mean '{near}.{rest}'?"
    name = key.rpartition(".")[2]
    return called_here(name) or _option_of_this_name(name, section if dot else "") or did_you_mean(key, known)


def _option_of_this_name(name: str, section: str) -> str:
    """Returns what an error adds about a key that is the name of an option, in a section or, if that is "", in any."""
    groups = [
        key.name
        for key in KEYS.values()
        if isinstance(key.allowed, Options) and any(name in option_names(each) for each in key.allowed.table.values())
    ]
    found = [f"{group}.{name}" for group in groups if not section or group.startswith(f"{section}.")]
    return f"; did you mean '{found[0]}'?" if len(found) == 1 else ""


def _key_errors(config: ConfigDict) -> tuple[list[str], dict[str, Any]]:
    """Returns the errors of single keys, and the value of every key without one."""
    messages, valid, values = [], {}, dict(_entries(config))
    sections = [section.name for section in SCHEMA if section.name]
    for section in sections:
        if section in values:
            messages.append(f"config.{section} = {shown(values[section])}: must be a group of keys")
    messages += [
        f"config.{name} = {shown(values[name])}: no such key{key_hint(name, KEYS)}"
        for name in sorted(values.keys() - KEYS.keys() - set(sections))
    ]
    for name, key in KEYS.items():
        if name in values:
            try:
                key.allowed.check(name, values[name])
            except ArgumentError as error:
                messages.append(_with_key(error, ""))
                continue
            unusable = list(unusable_parts(name, values[name]))
            messages += [f"config.{part} = {shown(as_plain(value))}: {problem}" for part, value, problem in unusable]
            if not unusable:
                valid[name] = values[name]
        elif name.split(".")[0] not in values:
            default = f"default_config(), which sets it to {key.default!r}"
            messages.append(f"config.{name} is missing: start from {default}")
    return messages, valid


def _entries(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the keys of the schema, each with its value, and every other key that the configuration holds."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, ConfigDict) and key not in KEYS:
            yield from _entries(value, f"{key}.")
        else:
            yield key, value if key in GROUP_KEYS else as_plain(value)


def _cross_key_errors(values: Mapping[str, Any]) -> list[str]:
    """Returns the errors of values that are valid alone but not together."""
    messages = []
    if values.get("train.steps") == 0 and values.get("train.epochs") == 0:
        messages.append("config.train.steps = 0 and config.train.epochs = 0: one of them must be above 0")
    if values.get("data.eval_split") == "" and values.get("train.early_stop", 0) > 0:
        messages.append(
            f"config.train.early_stop = {values['train.early_stop']}: without evaluation (data.eval_split = '') there "
            "is no score that could stop improving; use 0, or name a split"
        )
    messages += [
        f"config.log.histograms = {values['log.histograms']}: {why} ({key} = {shown(off)}); use (), or {remedy}"
        for key, off, why, remedy in (
            ("data.eval_split", "", "are written at evaluations, and there are none", "name a split"),
            ("log.writer", "none", "are written to event files, and there are none", "another log.writer"),
        )
        if values.get("log.histograms") and values.get(key) == off
    ]
    if values.get("data.train_split") == "":
        messages.append("config.data.train_split = '': must name the split to train on, such as train")
    if values.get("data.resize") == "keep":
        if values.get("data.cache") == "device":
            messages.append(
                "config.data.cache = 'device': images that keep their sizes (data.resize = 'keep') do not fit into one "
                "array; use data.cache = 'host', or data.resize = 'stretch'"
            )
        if values.get("eval.resolution") == "image_size":
            messages.append(
                "config.eval.resolution = 'image_size': images that keep their sizes (data.resize = 'keep') are scored "
                "at their own resolution; use 'native', or data.resize = 'stretch'"
            )
    elif values.get("data.resize") == "stretch" and values.get("data.scale", 1) != 1:
        messages.append(
            f"config.data.scale = {values['data.scale']}: images are resized to data.image_size; use 1, or "
            "data.resize = 'keep'"
        )
    if values.get("checkpoint.keep") == 0 and values.get("train.non_finite") == "rollback":
        messages.append(
            "config.train.non_finite = 'rollback': returns to a checkpoint, but none is saved (checkpoint.keep = 0); "
            "use 'stop' or 'skip', or keep at least 1"
        )
    messages += [*feature_cache_errors(values), *member_errors(values)]
    # sharding.make_mesh() checks batches against an axis that takes the remaining devices.
    axes = {axis: values.get(f"mesh.{axis}", 1) for axis in ("replicas", "data", "fsdp")}
    shards = math.prod(max(size, 1) for size in axes.values())
    split = " and ".join(f"mesh.{axis} = {size}" for axis, size in axes.items() if size > 1)
    return messages + [
        f"config.{key} = {values[key]}: must be a multiple of {shards}, because {split} "
        f"split a batch into {shards} shards"
        for key in ("train.batch_size", "eval.batch_size")
        if key in values and values[key] % shards
    ]


_BUILD: dict[str, Callable[..., Any]] = {
    "model.options": lambda network, options: network(num_classes=2, **options),
    "optimizer.options": lambda optimizer, options: optimizer(float, 0.0, **options),
    "optimizer.schedule_options": lambda schedule, options: schedule(1.0, sys.maxsize, **options),
}
"""How to build an entry that needs only numbers, so that it checks the values of its options itself."""


def _option_errors(values: Mapping[str, Any]) -> list[str]:
    """Returns the errors of the groups that hold the options of one entry of a table."""
    messages = []
    for key in KEYS.values():
        allowed = key.allowed
        if not (isinstance(allowed, Options) and {key.name, allowed.entry_key} <= values.keys()):
            continue
        name, options = values[allowed.entry_key], values[key.name]
        entry = look_up(name, allowed.table)
        hint = functools.partial(_option_hint, name=name, allowed=allowed)
        found = option_errors(entry, options, key=f"config.{key.name}", given=allowed.filled_in, hint=hint)
        if not found and key.name in _BUILD and name in allowed.table:
            try:
                _BUILD[key.name](entry, options)
            except ArgumentError as error:
                found = [_with_key(error, key.name)]
        messages += found
    return messages


def _option_hint(option: str, *, name: str, allowed: Options) -> str:
    """Returns what an error adds about an option that an entry lacks: what to set instead, or which entries have it."""
    owners = [other for other, entry in allowed.table.items() if option in option_names(entry)]
    if not owners or called_here(option):
        return called_here(option)
    listing = ", ".join(owners[:3]) + (f" and {len(owners) - 3} more" if len(owners) > 3 else "")
    return f"; {allowed.entry_key} = {name!r} lacks it, and {listing} {'have' if len(owners) > 1 else 'has'} it"


def _loss_errors(values: Mapping[str, Any]) -> list[str]:
    """Returns the errors of `loss`, `train.loss_weights` and `loss_options`."""
    if not {"loss", "loss_options"} <= values.keys():
        return []
    messages, weights, options = [], values["loss"], values["loss_options"]
    others = [name for group in values.get("train.loss_weights", ()) for name in group]
    keys = {**dict.fromkeys(others, "train.loss_weights"), **dict.fromkeys(weights, "loss")}
    for name, key in keys.items():
        try:
            if "." in name:
                raise ArgumentError(key, name, "the name of a loss must not contain a dot; use a module without one")
            loss = find_loss(name, LOSSES, argument=key)
            messages += option_errors(loss, options.get(name, {}), key=f"config.loss_options.{name}", hint=option_hint)
        except ArgumentError as error:
            messages.append(_with_key(error, ""))
    for name, weight in weights.items():
        try:
            NON_NEGATIVE.check(f"loss.{name}", as_plain(weight))
        except ArgumentError as error:
            messages.append(_with_key(error, ""))
    if not any(is_number(weight) and weight > 0 for weight in weights.values()):
        messages.append("config.loss: at least one loss must have a weight above 0; otherwise nothing can be learned")
    return messages + [
        f"config.loss_options.{name}: config.loss has no weight for this loss{did_you_mean(name, keys)}"
        for name in options
        if name not in keys
    ]
