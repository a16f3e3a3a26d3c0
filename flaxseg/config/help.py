"""The description of every configuration key, for `--help_config` and for docs/configuration.md."""

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.allowed import Options
from flaxseg.config.callbacks import CALLBACKS, FILLED_IN, option_group
from flaxseg.config.changes import changed_keys
from flaxseg.config.files import load_config, own_files
from flaxseg.config.schema import KEYS, SCHEMA, Key, leaves
from flaxseg.config.validate import config_key
from flaxseg.errors import ConfigError, did_you_mean
from flaxseg.losses import LOSSES
from flaxseg.registry import Option, look_up, options_of, type_name

_WIDTH = 100
_LONGEST_LINE = 140
_WIDEST_DEFAULT = 24
"""Characters; after a longer default value, the description begins on the next line."""

_OPTION_GROUPS = (
    *(name for name, key in KEYS.items() if isinstance(key.allowed, Options)),
    "loss_options",
    "train.callback_options",
)

_INTRODUCTION = """\
# Configuration

Set a key in a configuration file, as in `config.train.batch_size = 16`, or on the command line, as in
`--config.train.batch_size=16`. `flaxseg train --help_config [PREFIX]` prints the descriptions below. It also
describes the options of the configured dataset (`--help_config data.options`), network (`model.options`), losses
(`loss_options`), optimizer (`optimizer.options`), schedule (`optimizer.schedule_options`) and callbacks
(`train.callback_options`).

This page is generated from `flaxseg/config/schema.py`: `python -m flaxseg.config.help > docs/configuration.md`.
"""

_OF_DATASETS = ("data.name", "data.options.")

_OWN_FILES = """\
## What the configurations change

The configurations that come with flaxseg set these keys, and `data.name` and `data.options`; an empty cell is the
default. Variants, such as `pet:small`, set a few more: `flaxseg train --config=pet:small --print_config` prints all.
"""


def config_help(config: ConfigDict, prefix: str = "") -> str:
    """Returns a text that describes keys: their defaults, what they mean, and what they may hold.

    Args:
      config: the configuration that names the dataset, network, losses, optimizer and schedule whose options are
        described.
      prefix: a section such as `optimizer`, a key, a group of options such as `model.options` or `loss_options.dice`,
        or an option such as `model.options.width`; "" for every key of the schema.

    Raises:
      ConfigError: no key has this prefix (the message names the nearest), or the configuration names an unknown
        dataset, network, loss, optimizer or schedule.
    """
    prefix = prefix.removeprefix("config.").rstrip(".")
    is_of_options = any(_is_below(prefix, group) for group in _OPTION_GROUPS)
    tables = list(_option_tables(config, prefix) if is_of_options else _schema_tables())
    found = [dataclasses.replace(t, rows=[row for row in t.rows if _is_below(row.key, prefix)]) for t in tables]
    # A group without options is shown, too.
    shown = [table for table in found if table.rows or _is_below(table.name, prefix)]
    if not shown:
        known = [section.name for section in SCHEMA] + [*KEYS] + [row.key for table in tables for row in table.rows]
        raise ConfigError(f"--help_config {prefix}: no such section or key{did_you_mean(prefix, known)}")
    return "\n\n".join(map(_text, shown))


def default_options(config: ConfigDict) -> list[str]:
    """Returns a line for each option that the configuration does not set, with its default and its meaning.

    Args:
      config: a valid configuration, which names the dataset, network, losses, optimizer and schedule.
    """
    given = {key for key, _ in leaves(config)}
    rows = [row for group in _OPTION_GROUPS for table in _option_tables(config, group) for row in table.rows]
    return [
        textwrap.shorten(f"{row.key} = {row.default} # {row.doc}", _LONGEST_LINE, placeholder=" ...")
        for row in rows
        if row.key not in given
    ]


def markdown() -> str:
    """Returns the text of docs/configuration.md, which has a table for each section of the schema."""
    lines = [_INTRODUCTION]
    for section, table in zip(SCHEMA, _schema_tables(), strict=True):
        lines += [f"## {section.name or 'Top level'}", "", f"{section.doc}.", ""]
        lines += ["| key | default | meaning | must be |", "|---|---|---|---|"]
        for row in table.rows:
            cells = (f"`{row.key}`", f"`{row.default}`", row.doc, row.allowed)
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        lines.append("")
    return "\n".join([*lines, _OWN_FILES, *_table_of_files(), ""])


def _table_of_files() -> Iterator[str]:
    """Yields the lines of the table of what each configuration that comes with flaxseg changes."""
    changes = {}
    for file in own_files():
        config = load_config(file)
        values = dict(leaves(config))
        changes[file] = {key: values[key] for key in changed_keys(config) if not key.startswith(_OF_DATASETS)}
    yield f"| key | {' | '.join(f'`{file}`' for file in changes)} |"
    yield f"|---|{'---|' * len(changes)}"
    keys = {key for changed in changes.values() for key in changed}
    for key in sorted(keys):
        cells = (f"`{changed[key]!r}`" if key in changed else "" for changed in changes.values())
        yield f"| `{key}` | {' | '.join(cells)} |"


@dataclasses.dataclass(frozen=True)
class _Row:
    key: str
    default: str
    allowed: str
    doc: str


@dataclasses.dataclass(frozen=True)
class _Table:
    name: str
    title: str
    rows: Sequence[_Row]


def _is_below(key: str, prefix: str) -> bool:
    return not prefix or key == prefix or key.startswith(f"{prefix}.")


def _schema_tables() -> Iterator[_Table]:
    for section in SCHEMA:
        title = f"{section.name}: {section.doc}" if section.name else section.doc
        yield _Table(section.name, title, [_row_of_key(key) for key in section.keys])


def _row_of_key(key: Key) -> _Row:
    hint = f"; --help_config {key.name} describes them" if key.name in _OPTION_GROUPS else ""
    return _Row(key.name, repr(key.default), f"{key.allowed}{hint}", key.doc)


def _option_tables(config: ConfigDict, prefix: str) -> Iterator[_Table]:
    values = dict(leaves(config))
    for key in KEYS.values():
        if isinstance(key.allowed, Options) and _is_below(prefix, key.name):
            entry_key, filled_in = key.allowed.entry_key, key.allowed.filled_in
            name = values.get(entry_key, KEYS[entry_key].default)
            with config_key(""):
                KEYS[entry_key].allowed.check(entry_key, name)
            options = [o for o in options_of(look_up(name, key.allowed.table)) if o.name not in filled_in]
            owner = f"{entry_key} = {name!r} (add --config.{entry_key}=NAME for others)"
            yield _table_of_options(key.name, owner, options)
    if _is_below(prefix, "loss_options"):
        weighted = [key.removeprefix("loss.") for key in values if key.startswith("loss.") and values[key]]
        for name in prefix.split(".")[1:2] or weighted:
            with config_key(""):
                loss = look_up(name, LOSSES, argument="loss")
            yield _table_of_options(f"loss_options.{name}", f"the loss {name!r}", options_of(loss))
    if _is_below(prefix, "train.callback_options"):
        yield from _callback_tables(values["train.callbacks"], *prefix.split(".")[2:3])


def _callback_tables(configured: Sequence[str], group: str = "") -> Iterator[_Table]:
    """Yields the options of the configured callbacks, or of the one with a group of options."""
    others = [name for name in CALLBACKS if name not in configured] if group else []
    for name in [*configured, *others]:
        with config_key("train", name="callbacks"):
            callback = look_up(name, CALLBACKS)
        if group in ("", option_group(name)):
            options = [o for o in options_of(callback) if o.name not in FILLED_IN]
            yield _table_of_options(f"train.callback_options.{option_group(name)}", f"the callback {name!r}", options)


def _table_of_options(group: str, owner: str, options: Iterable[Option]) -> _Table:
    rows = [_row_of_option(group, option) for option in options]
    return _Table(group, f"{group}: The options of {owner}" + ("" if rows else ", which has none"), rows)


def _row_of_option(group: str, option: Option) -> _Row:
    default = "required" if option.is_required else repr(option.default)
    allowed = "" if option.annotation is Any else f"of type {type_name(option.annotation)}"
    return _Row(f"{group}.{option.name}", default, allowed, option.doc)


def _text(table: _Table) -> str:
    """Returns a table as aligned text, with the meaning and the allowed values below one another in a third column."""
    # Options are shown without the long name of their group, which the title gives.
    shown = {row.key: row.key.removeprefix(f"{table.name}.") if "." in table.name else row.key for row in table.rows}
    keys = max(map(len, shown.values()), default=0)
    defaults = min(max((len(row.default) for row in table.rows), default=0), _WIDEST_DEFAULT)
    margin = " " * (keys + defaults + 6)
    lines = textwrap.wrap(table.title, _WIDTH)
    for row in table.rows:
        head = f"  {shown[row.key]:<{keys}}  {row.default:<{defaults}}  "
        texts = (row.doc, f"Must be {row.allowed}." if row.allowed else "")
        wrapped = [line for text in texts for line in textwrap.wrap(text, _WIDTH - len(margin))]
        lines.append(head + wrapped.pop(0) if wrapped and len(head) == len(margin) else head.rstrip())
        lines += [margin + line for line in wrapped]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
