"""Configuration files, `configs/NAME.py:variant`, and `key=value` overrides of single keys."""

import ast
import runpy
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.schema import OPTION_KEYS, TEXT_OR_NUMBERS, leaves
from flaxseg.config.validate import errors_in, raise_all
from flaxseg.errors import ConfigError, did_you_mean


def load_config(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads `configs/NAME.py` or `configs/NAME.py:variant` and applies overrides, without checking values.

    Args:
      file: path of a Python file with `get_config(variant="")`, with an optional `:variant`.
      overrides: `key=value` texts such as `optimizer.learning_rate=3e-4`; values are Python literals or text.

    Raises:
      ConfigError: no such file, no get_config in it, or it failed; or overrides of keys that do not exist (all).
    """
    path, _, variant = file.partition(":")
    if not Path(path).is_file():
        there = sorted(str(p) for p in Path(path).parent.glob("*.py"))
        raise ConfigError(
            f"--config={file}: there is no file {path}{did_you_mean(path, there)}"
            + (f"; its folder holds {', '.join(there)}" if there else "")
        )
    get_config = _call(path, lambda: runpy.run_path(path)).get("get_config")
    if not callable(get_config):
        raise ConfigError(f"{path}: defines no get_config(variant='') that returns the configuration")
    config = _call(file, lambda: get_config(variant))
    if isinstance(config, ConfigDict):
        override(config, overrides)
    return config


def _call(file: str, function: Callable[[], Any]) -> Any:
    """Returns what a configuration file's code does, with its errors as ConfigError that name the line."""
    try:
        return function()
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in file]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise ConfigError(f"{file}{line}: {type(error).__name__}: {error}") from error


def override(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Sets keys of a configuration from `key=value` texts.

    Raises:
      ConfigError: a text that is not `key=value`, or a key that does not exist; all of them in one message.
    """
    messages = []
    known = [key for key, _ in leaves(config)] + list(OPTION_KEYS)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            messages.append(f"--config.{text}: give a value, as in --config.{text}=VALUE")
        elif not (key in known or key.startswith(tuple(f"{prefix}." for prefix in OPTION_KEYS))):
            messages.append(f"config.{key}: no such key{did_you_mean(key, known)}")
        elif not _set(config, key, value):
            messages.append(f"config.{key} = {value}: what stands before the last dot is a value, not a group of keys")
    if messages:
        # Told together with whatever else is wrong, so that everything can be mended at once.
        raise_all(messages + errors_in(config))


def _set(config: ConfigDict, key: str, text: str) -> bool:
    """Sets a key from text, as text where it is one now and else as a Python literal; whether it could."""
    *parents, name = key.split(".")
    for parent in parents:
        if parent not in config:
            config[parent] = ConfigDict(type_safe=False)
        config = config[parent]
        if not isinstance(config, ConfigDict):
            return False
    is_text = isinstance(config.get(name), str) and not (key in TEXT_OR_NUMBERS and text[:1] in "([")
    value = text if is_text else _literal(text)
    config[name] = ConfigDict(value, type_safe=False) if isinstance(value, dict) else value
    return True


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text, text)
