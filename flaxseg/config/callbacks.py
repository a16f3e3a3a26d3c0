"""The callbacks that `train.callbacks` can name, and the check of their options."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.errors import did_you_mean, shown
from flaxseg.registry import look_up, option_errors

CALLBACKS = {
    "csv": "flaxseg.callbacks.csv:csv_callback",
    "mlflow": "flaxseg.callbacks.mlflow:mlflow_callback",
    "wandb": "flaxseg.callbacks.wandb:wandb_callback",
}
"""The functions that return a callback, by short names; imported on use, because they import the training loop."""

FILLED_IN = ("workdir", "config")
"""Arguments that a callback's function receives from the run, if it has them: its working directory, a Path, and its
configuration, a ConfigDict."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def option_group(name: str) -> str:
    """Returns the group of `train.callback_options` that holds the options of a callback.

    Keys cannot contain the dots of `package.module:function`, so it is the name of the function.
    """
    return name.rpartition(":")[2]


def drop_callbacks(config: ConfigDict) -> None:
    """Removes the callbacks of a configuration that is not trained with, so that their code need not be installed."""
    if isinstance(config.get("train"), ConfigDict):
        config.train.callbacks, config.train.callback_options = (), {}


def callback_errors(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the errors of `train.callbacks` and `train.callback_options`.

    Args:
      values: the value of every key that is valid alone.
    """
    if not {"train.callbacks", "train.callback_options"} <= values.keys():
        return
    names, options = values["train.callbacks"], values["train.callback_options"]
    groups = [option_group(name) for name in names]
    for name, group in zip(names, groups, strict=True):
        entry = look_up(name, CALLBACKS)
        if groups.count(group) > 1:
            yield f"config.train.callbacks = {shown(names)}: names {group!r} twice; name each callback once"
            return
        if required := _required_positional(entry):
            yield (
                f"config.train.callbacks = {shown(names)}: {name!r} needs the positional argument {required!r}, but "
                f"options are given by name; declare it as keyword-only, after a `*`"
            )
        key = f"config.train.callback_options.{group}"
        yield from option_errors(entry, options.get(group, {}), key=key, given=FILLED_IN)
    for group in options:
        if group not in groups:
            yield (
                f"config.train.callback_options.{group}: no such callback in config.train.callbacks"
                f"{did_you_mean(group, groups)}"
            )


def _required_positional(entry: Callable[..., Any]) -> str:
    """Returns the name of the first positional argument without a default; "" if there is none."""
    parameters = inspect.signature(entry).parameters.values()
    return next((p.name for p in parameters if p.kind in _POSITIONAL and p.default is inspect.Parameter.empty), "")
