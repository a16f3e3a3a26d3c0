"""The command-line flags of suggested settings, and the overrides in a line of them."""

import re
import shlex
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.files import override_flag
from flaxseg.data.datasets import DATASETS, LAYOUTS
from flaxseg.data.splits import settings_to_open
from flaxseg.errors import ConfigError, DataError
from flaxseg.registry import look_up, option_names

_KEYS = {
    "eval_split": "data.eval_split",
    "image_size": "data.image_size",
    "resize": "data.resize",
    "batch_size": "train.batch_size",
    "skip_bad": "data.skip_bad",
    "class_weights": "class_weights",
    "cross_entropy": "loss.cross_entropy",
    "mean": "model.options.mean",
    "std": "model.options.std",
}
"""The configuration keys of arguments that are not options of the dataset."""


def flag(argument: str, value: Any) -> str:
    """Returns the flag that sets an argument, quoted for a shell: `--config.data.options.values='(0,255)'`."""
    if argument == "config":
        return f"--config={value}"
    key = _KEYS.get(argument, f"data.options.{argument}")
    return override_flag(key, value)


def flags_to_open(error: DataError, settings: ConfigDict) -> str:
    """Returns the sentence with the flags with which a dataset can probably be opened; "" if none are known.

    Args:
      error: why it cannot be opened.
      settings: the section `data` of the configuration.
    """
    repair = settings_to_open(
        error,
        option_names=option_names(look_up(settings.name, DATASETS)),
        layout=LAYOUTS.get(settings.name, {}),
        eval_split=settings.eval_split,
    )
    flags = " ".join(flag(name, value) for name, value in repair.items())
    return f"On the command line, {'use' if 'config' in repair else 'add'} {flags}" if flags else ""


_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\S)+""")
_BEGINS_WITH_KEY = re.compile(r"""['"]?(?:--config\.)?[\w.:]+=""")
_HAS_PYTHON_VALUE = re.compile(r"[\w.:-]+=[(\[{]")


def overrides_in(text: str) -> list[str]:
    """Returns the overrides `key=value` in a text such as `train.steps=70 data.options.values=(0, 255)`.

    Each may be a flag as a shell takes it, as in `--config.data.options.values='(0,255)'`: its quotes and the prefix
    `--config.` are removed. A value that begins with a bracket is Python's, and keeps its quotes. Values may contain
    spaces.

    Raises:
      ConfigError: a quotation mark without its counterpart.
    """
    items: list[str] = []
    for word in _WORD.findall(text):
        if items and not _BEGINS_WITH_KEY.match(word):
            items[-1] += f" {word}"
        else:
            items.append(word)
    return [_unquoted(item).removeprefix("--config.") for item in items]


def _unquoted(item: str) -> str:
    if _HAS_PYTHON_VALUE.match(item):
        return item
    try:
        return " ".join(shlex.split(item))
    except ValueError:
        raise ConfigError(f"{item}: has a quotation mark without its counterpart; quote the whole value") from None
