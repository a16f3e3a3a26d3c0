"""Options of a configuration file that a name on the command line has made meaningless."""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.allowed import Options
from flaxseg.config.schema import KEYS
from flaxseg.errors import ArgumentError, shown
from flaxseg.registry import look_up, takes_option


def entry_names(config: ConfigDict) -> dict[str, Any]:
    """Returns the value of each key that names an entry with options of its own, such as `model.name`."""
    return {options.entry_key: _value(config, options.entry_key) for options in _groups().values()}


def drop_options(config: ConfigDict, before: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Removes the options of entries that the configuration no longer names, where the new ones do not have them.

    Options that were given along with the new name stay, and so do those that the former entry did not have either,
    because these are mistakes.

    Args:
      config: the configuration, which is changed.
      before: what `entry_names` returned before names were changed.
      given: the keys that were set since.

    Returns:
      A notice for each option that was removed.
    """
    notices = []
    for group, options in _groups().items():
        name, values = _value(config, options.entry_key), _value(config, group)
        if name == before[options.entry_key] or not isinstance(values, ConfigDict):
            continue
        try:
            former, new = look_up(before[options.entry_key], options.table), look_up(name, options.table)
        except (ArgumentError, TypeError):
            continue  # Reported by the validation.
        for option in list(values):
            if f"{group}.{option}" not in given and takes_option(former, option) and not takes_option(new, option):
                value = shown(values[option])
                del values[option]
                notices.append(f"config.{group}.{option} = {value} is left out: {name!r} has no such option")
    return notices


def _groups() -> dict[str, Options]:
    """Returns the groups of options by their keys."""
    return {key.name: key.allowed for key in KEYS.values() if isinstance(key.allowed, Options)}


def _value(config: ConfigDict, key: str) -> Any:
    """Returns the value of a key; None if there is none."""
    section, name = key.split(".")
    found = config.get(section)
    return found.get(name) if isinstance(found, ConfigDict) else None
