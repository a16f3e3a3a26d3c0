"""Configuration files, `configs/NAME.py:variant`, and `key=value` overrides of single keys."""

import ast
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config import OPTION_KEYS, leaves, raise_all
from flaxseg.errors import ConfigError
from flaxseg.lookup import did_you_mean


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
    try:
        get_config = runpy.run_path(path)["get_config"]
    except KeyError:
        raise ConfigError(f"{path}: defines no get_config(variant='') that returns the configuration") from None
    except (SyntaxError, ImportError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error
    try:
        config = get_config(variant)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: get_config failed: {type(error).__name__}: {error}") from error
    override(config, overrides)
    return config


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
        elif key in known or key.startswith(tuple(f"{prefix}." for prefix in OPTION_KEYS)):
            _set(config, key, _literal(value))
        else:
            messages.append(f"config.{key}: no such key{did_you_mean(key, known)}")
    raise_all(messages)


def _set(config: ConfigDict, key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        if parent not in config:
            config[parent] = ConfigDict(type_safe=False)
        config = config[parent]
    config[name] = ConfigDict(value, type_safe=False) if isinstance(value, dict) else value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text, text)
