"""The callbacks that a configuration names."""

from pathlib import Path

from ml_collections import ConfigDict

from flaxseg.config.allowed import as_plain
from flaxseg.config.callbacks import CALLBACKS, FILLED_IN, option_group
from flaxseg.config.validate import config_key
from flaxseg.errors import ConfigError, shown
from flaxseg.registry import look_up, option_names
from flaxseg.train.callbacks import Callback


def configured_callbacks(config: ConfigDict, workdir: Path) -> list[Callback]:
    """Returns the callbacks that `config.train.callbacks` names, in their order.

    Args:
      config: a valid configuration.
      workdir: the working directory of the run.

    Raises:
      ConfigError: a package that a callback needs is missing, an option has an impossible value, or the function does
        not return a `Callback`.
    """
    return [_configured_callback(name, config, workdir) for name in config.train.callbacks]


def _configured_callback(name: str, config: ConfigDict, workdir: Path) -> Callback:
    group = option_group(name)
    make = look_up(name, CALLBACKS)
    known = option_names(make)
    from_run = dict(zip(FILLED_IN, (workdir, config), strict=True))
    filled_in = {argument: value for argument, value in from_run.items() if argument in known}
    options = as_plain(config.train.callback_options.get(group, {}))
    try:
        with config_key(f"train.callback_options.{group}"):
            callback = make(**options, **filled_in)
    except ImportError as error:
        raise ConfigError(f"config.train.callbacks = {name!r}: {error}") from error
    if not isinstance(callback, Callback):
        raise ConfigError(
            f"config.train.callbacks = {name!r}: must return a Callback of flaxseg.train.callbacks, but returns "
            f"{shown(callback)}; name a subclass of it, or a function that returns one"
        )
    return callback
