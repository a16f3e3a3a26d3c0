"""What a configuration changes in the defaults, and a table of all its values for TensorBoard."""

import json
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.schema import GROUP_KEYS, KEYS, SCHEMA, default_config, leaves


def changed_keys(config: ConfigDict) -> set[str]:
    """Returns the keys whose values are not the defaults, and every option that is given."""
    defaults = dict(leaves(default_config()))
    return {key for key, value in leaves(config) if key not in defaults or not _equal(value, defaults[key])}


def config_markdown(config: ConfigDict) -> str:
    """Returns a Markdown table for each section of a configuration, with changed values in bold, and their defaults."""
    changed, values, lines = changed_keys(config), dict(leaves(config)), []
    for section in SCHEMA:
        names = [name for key in section.keys for name in values if _is_of(name, key.name)]
        lines += [f"### {section.name or 'top level'}", "", "| key | value | default |", "|---|---|---|"]
        for name in names:
            value = _code(values[name])
            default = _code(KEYS[name].default) if name in KEYS and name in changed else ""
            lines.append(f"| `{name}` | {f'**{value}**' if name in changed else value} | {default} |")
        lines.append("")
    return "\n".join(lines)


def _is_of(name: str, key: str) -> bool:
    return name == key or (key in GROUP_KEYS and name.startswith(f"{key}."))


def _code(value: Any) -> str:
    return f"`{repr(value).replace('`', chr(39))}`"


def _equal(value: Any, default: Any) -> bool:
    # A tuple of a configuration that was read from a file is a list.
    return bool(json.dumps(value) == json.dumps(default))
