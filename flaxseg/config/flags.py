"""The command-line flags of suggested settings."""

from typing import Any

from flaxseg.config.files import override_flag

_KEYS = {
    "eval_split": "data.eval_split",
    "image_size": "data.image_size",
    "resize": "data.resize",
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
