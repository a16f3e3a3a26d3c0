"""Reads configuration files, `configs/NAME.py:variant` or `RUN/config.json`, and applies `key=value` overrides."""

import ast
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.allowed import EntryNames, Names
from flaxseg.config.changed_names import drop_options, entry_names
from flaxseg.config.groups import Group, as_group
from flaxseg.config.schema import GROUP_KEYS, KEYS, default_config, leaves
from flaxseg.config.validate import errors_in, key_hint, raise_all
from flaxseg.errors import ArgumentError, ConfigError, did_you_mean, shown
from flaxseg.models.pretrained.json_text import parse_json

_MAX_NAME = 200


def load_config(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads `configs/NAME.py`, `configs/NAME.py:variant` or `RUN/config.json` and applies overrides.

    Values are not validated. Where an override changes a name, such as `model.name`, options of the file's choice that
    the new one lacks are left out, which is printed.

    Args:
      file: the name of a file that comes with flaxseg, such as `pet`, or the path of a Python file that defines
        `get_config(variant="")`, either optionally followed by `:variant`; or the path of the `config.json` of a run,
        or of the directory of a run.
      overrides: strings `key=value`, such as `optimizer.learning_rate=3e-4`; see override().

    Raises:
      ConfigError: the file does not exist, raises an error, or defines no get_config that returns a configuration; or
        overrides of keys that do not exist (the message lists all of them).
    """
    recorded = _recorded_file(file)
    config = _run_python(file) if recorded is None else _read_recorded(recorded)
    if not isinstance(config, ConfigDict):
        raise_all(errors_in(config))
    config = as_group(config)
    names = entry_names(config)
    override(config, overrides)
    for notice in drop_options(config, names, [item.partition("=")[0] for item in overrides]):
        print(notice, file=sys.stderr)
    return config


def _recorded_file(file: str) -> Path | None:
    """Returns the `config.json` that a run recorded, if `file` is one or the directory of a run; None otherwise.

    Raises:
      ConfigError: a directory that is not a run's.
    """
    path = Path(file).expanduser()
    if not path.is_dir():
        return path if path.suffix == ".json" and path.is_file() else None
    if not (path / "config.json").is_file():
        raise ConfigError(f"--config={file}: is a directory without the config.json of a run; give the file itself")
    return path / "config.json"


def _read_recorded(path: Path) -> ConfigDict:
    """Returns the configuration in the `config.json` of a run; keys missing from it have their defaults."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is not the configuration of a run ({error})") from error
    if not isinstance(found, dict) or not any(isinstance(value, dict) for value in found.values()):
        raise ConfigError(f"{path}: is not the configuration of a run; give the config.json in the --workdir of a run")
    return config_of_record(found, path)


def config_of_record(found: Mapping[str, Any], path: Path) -> ConfigDict:
    """Returns the configuration that a run recorded as JSON; keys missing from it have their defaults.

    Args:
      found: the content of the JSON file.
      path: the file, for error messages.

    Raises:
      ConfigError: it has keys that no configuration has.
    """
    _check_keys(found, path)
    config = default_config()
    for key, value in found.items():
        is_section = isinstance(value, dict) and key not in GROUP_KEYS and isinstance(config.get(key), ConfigDict)
        known = config[key].to_dict() if is_section else {}
        config[key] = _as_config({**known, **value} if known else value)
    return config


def _check_keys(value: Any, path: Path) -> None:
    """Raises ConfigError for keys that no configuration has and a ConfigDict does not accept."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_keys(each, path)
    for key in value if isinstance(value, dict) else ():
        if "." in key or len(key) > _MAX_NAME:
            raise ConfigError(f"{path}: is not the configuration of a run (it has the key {shown(key)})")


def _as_config(value: Any) -> Any:
    """Returns a value of a JSON file with the types that a configuration has: groups of keys, and tuples."""
    if isinstance(value, dict):
        return Group({key: _as_config(each) for key, each in value.items()})
    return tuple(map(_as_config, value)) if isinstance(value, list) else value


def _run_python(file: str) -> Any:
    """Returns what `get_config` of a Python file returns."""
    path, _, variant = file.partition(":")
    if not Path(path).is_file():
        own = own_files()
        if path not in own:
            raise _missing(file, path, own)
        path = str(own[path])
    get_config = _call(path, lambda: runpy.run_path(path)).get("get_config")
    if not callable(get_config):
        raise ConfigError(f"{path}: defines no get_config(variant='') that returns the configuration")
    return _call(file, lambda: get_config(variant))


def own_files() -> dict[str, Path]:
    """Returns the configuration files that come with flaxseg, by their names, such as `pet`."""
    package = Path(__file__).resolve().parents[1]
    # They are installed into the package; in a clone, and where it is installed as editable, they lie beside it.
    found = next((each for each in (package / "configs", package.parent / "configs") if each.is_dir()), None)
    return {path.stem: path for path in sorted(found.glob("*.py"))} if found else {}


def _missing(file: str, path: str, own: Mapping[str, Path]) -> ConfigError:
    """Returns the error about a configuration file that does not exist."""
    existing = sorted(str(each) for each in Path(path).parent.glob("*.py"))
    is_name = Path(path).name == path and not path.endswith(".py")
    contents = "" if is_name or not existing else f"; the folder contains {', '.join(existing)}"
    return ConfigError(
        f"--config={file}: there is no file {path}{did_you_mean(path, [*own, *existing])}{contents}; those that "
        f"come with flaxseg are {', '.join(own)}"
    )


def override(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Sets keys of a configuration.

    Args:
      config: the configuration, which is changed.
      overrides: strings `key=value`. The value is taken as a string where the key accepts that string, or, for an
        option, where its present value is a string; otherwise as a Python literal, or as a string if it is not one.
        A key that takes a tuple of names, such as `eval.metrics`, also takes names separated by commas.

    Raises:
      ConfigError: a string without `=`, or a key that does not exist; one message lists all of them, together with
        the other errors of the configuration.
    """
    messages = []
    known = [key for key, _ in leaves(config)] + list(GROUP_KEYS)
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            messages.append(f"--config.{item}: has no value; write --config.{item}=VALUE")
        elif not (key in known or key.startswith(tuple(f"{group}." for group in GROUP_KEYS))):
            messages.append(f"config.{key}: no such key{key_hint(key, known)}")
        elif not _set(config, key, value):
            messages.append(f"config.{key} = {value}: the part before the last dot is a value, not a group of keys")
    if messages:
        # Report them with all other errors, so that everything can be corrected at once.
        raise_all(messages + errors_in(config))


def override_flag(key: str, value: Any) -> str:
    """Returns the flag that sets a key, quoted for a shell: `--config.data.options.values='(0,255)'`."""
    text = value if isinstance(value, str) else repr(value).replace(", ", ",")
    if not isinstance(value, str) and '"' not in text and "\\" not in text:
        text = text.replace("'", '"')  # A shell's own quotes are single ones.
    return f"--config.{key}={shlex.quote(text)}"


def _call(file: str, function: Callable[[], Any]) -> Any:
    """Returns the result of a configuration file's code; turns its errors into a ConfigError that names the line."""
    try:
        return function()
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in file]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise ConfigError(f"{file}{line}: {type(error).__name__}: {error}") from error


def _set(config: ConfigDict, key: str, text: str) -> bool:
    """Sets a key from the text of its value; returns False if one of its parents is not a group of keys."""
    *parents, name = key.split(".")
    for parent in parents:
        if parent not in config:
            config[parent] = Group()
        config = config[parent]
        if not isinstance(config, ConfigDict):
            return False
    is_string = _accepts(key, text) if key in KEYS else isinstance(config.get(name), str)
    value = text if is_string else _literal(text)
    if isinstance(value, str) and key in KEYS and isinstance(KEYS[key].allowed, Names | EntryNames):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    config[name] = as_group(value)
    return True


def _accepts(key: str, text: str) -> bool:
    try:
        KEYS[key].allowed.check(key, text)
    except ArgumentError:
        return False
    return True


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text, text)
