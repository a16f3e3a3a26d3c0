"""The command-line flags of suggested settings."""

from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.files import override_flag
from flaxseg.data.datasets import DATASETS, LAYOUTS
from flaxseg.data.splits import settings_to_open
from flaxseg.errors import DataError
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
