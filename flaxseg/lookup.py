"""From names to functions: the tables of models, losses, data sets and optimizers, and functions of the user's own."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flaxseg.errors import ConfigError


def look_up(name: str, table: Mapping[str, Callable[..., Any]], *, key: str) -> Callable[..., Any]:
    """Returns the function that a name stands for.

    Args:
      name: a name of the table, or `package.module:function` for one of the user's own.
      table: the functions that flaxseg brings.
      key: the configuration key that the name came from, for the message.

    Raises:
      ConfigError: no such name (lists what there is and the nearest), or no such module or function.
    """
    if name in table:
        return table[name]
    if ":" in name:
        return _import_function(name, key=key)
    raise ConfigError(
        f"{key} = {name!r}: unknown. Known are {', '.join(sorted(table))}{did_you_mean(name, table)}; "
        "'package.module:function' names one of your own"
    )


def _import_function(name: str, *, key: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{key} = {name!r}: module {module_name!r} cannot be imported ({error}); "
            "check the spelling, and that it is installed or on PYTHONPATH"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"{key} = {name!r}: module {module_name!r} has no function {function_name!r}"
            f"{did_you_mean(function_name, names)}"
        )
    return function


def option_names(function: Callable[..., Any]) -> list[str]:
    """Returns the names of a function's keyword-only arguments, which are its options."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def option_errors(
    function: Callable[..., Any], options: Mapping[str, Any], *, key: str, given: Iterable[str] = ()
) -> list[str]:
    """Returns a message for each option that a function does not take or lacks; none when they fit.

    Args:
      function: its keyword-only arguments are the options allowed.
      options: names and values of the options.
      key: the configuration key that holds the options, for the messages.
      given: arguments that flaxseg fills in itself, so that they are neither missing nor to be set.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return []
    given = set(given)
    allowed = [name for name in option_names(function) if name not in given]
    listing = ", ".join(allowed) if allowed else "none"
    messages = [
        f"{key}.{name} = {value!r}: no such option{did_you_mean(name, allowed)}; options are {listing}"
        for name, value in options.items()
        if name not in allowed
    ]
    required = [p.name for p in parameters if p.name in allowed and p.default is inspect.Parameter.empty]
    return messages + [f"{key}.{name} is missing: it has no default" for name in required if name not in options]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the candidate nearest to a name, or nothing when none is near."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=0.55)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""
