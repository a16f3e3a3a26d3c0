"""One error for all arguments of a network that do not exist, with the names that they have here."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

from flaxseg.errors import ArgumentError, did_you_mean, shown
from flaxseg.registry import HasOptions, no_such_option, option_names

P = ParamSpec("P")
R = TypeVar("R")

_RENAMED = {
    "encoder_name": "encoder",
    "backbone": "encoder",
    "classes": "num_classes",
    "n_classes": "num_classes",
    "num_labels": "num_classes",
    "decoder_attention_type": "attention",
    "encoder_output_stride": "output_stride",
    "base_channels": "width",
}
"""The options of networks by the names that they have elsewhere."""

_REMEDIES = {
    "activation": "leave it out: networks return logits",
    "encoder_weights": "leave it out: load_pretrained fills the variables of a network with weights",
    "weights": "leave it out: load_pretrained fills the variables of a network with weights",
    "pretrained": "leave it out: load_pretrained fills the variables of a network with weights",
    "in_channels": "leave it out: the images that the state is created with have the number of channels",
    "in_chans": "leave it out: the images that the state is created with have the number of channels",
    "n_channels": "leave it out: the images that the state is created with have the number of channels",
    "aux_params": "leave it out: image_classes adds a head that classifies whole images",
}
"""What to do about arguments that networks have elsewhere, and here in another form."""


def names_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function that raises one ArgumentError for all keywords that do not exist.

    Args:
      function: a function that returns a network, or the `__call__` of a class that lists its options.
    """
    own = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        entry: Any = args[0] if args and isinstance(args[0], HasOptions) else function
        if entry is not function or not own >= options.keys():
            check_names(options, listed=option_names(entry), also=own)
        return function(*args, **options)

    return checked


def check_names(options: Mapping[str, Any], *, listed: Collection[str], also: Collection[str] = ()) -> None:
    """Raises one ArgumentError for all options that do not exist.

    Args:
      options: the options that are given.
      listed: the names of the options, for the message.
      also: names of options that are checked elsewhere, with a message of their own.
    """
    wrong = [name for name in options if name not in listed and name not in also]
    if not wrong:
        return
    first, *others = wrong
    if not others:
        raise ArgumentError(first, options[first], no_such_option(first, listed, hint=_remedy(first, listed)))
    texts = [f"{name} = {shown(options[name])}: no such option{_remedy(name, listed)}. " for name in others]
    listing = f"Options are {', '.join(listed)}"
    raise ArgumentError(first, options[first], f"no such option{_remedy(first, listed)}. {''.join(texts)}{listing}")


def _remedy(name: str, listed: Collection[str]) -> str:
    """Returns what to use instead of an option that does not exist, as a clause; nothing where that is unclear."""
    if _RENAMED.get(name) in listed:
        return f"; use {_RENAMED[name]}"
    return f"; {_REMEDIES[name]}" if name in _REMEDIES else did_you_mean(name, listed)
