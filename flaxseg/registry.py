"""From names to functions: the tables of models, losses, datasets and optimizers, and functions of the user's own."""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.errors import ArgumentError, did_you_mean


def look_up(name: str, table: Mapping[str, Callable[..., Any]], *, argument: str = "name") -> Callable[..., Any]:
    """Returns the function that a name stands for.

    Args:
      name: a name of the table, or `package.module:function` for a function of the user's own.
      table: the functions that flaxseg provides, by name.
      argument: what the error calls `name`.

    Raises:
      ArgumentError: an unknown name (the message lists the known ones and the nearest), or a module or function that
        cannot be imported.
    """
    if name in table:
        return table[name]
    if ":" in name:
        return _import_function(name, argument)
    raise ArgumentError(
        argument,
        name,
        f"unknown. Known are {', '.join(sorted(table))}{did_you_mean(name, table)}; "
        "'package.module:function' names one of your own",
    )


def _import_function(name: str, argument: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ArgumentError(
            argument,
            name,
            f"module {module_name!r} cannot be imported ({error}); "
            "check the spelling, and that it is installed or on PYTHONPATH",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n, value in vars(module).items() if callable(value)]
        raise ArgumentError(
            argument,
            name,
            f"module {module_name!r} has no function {function_name!r}{did_you_mean(function_name, names)}",
        )
    return function


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of an entry of a table: a keyword-only argument of a function, or a field of a module.

    Attributes:
      name: the option's name.
      annotation: its type annotation; `Any` where there is none.
      default: its default; `inspect.Parameter.empty` for an option that has to be given.
      doc: its one-line description, from the `Args:` or `Attributes:` section of the docstring; "" without one.
    """

    name: str
    annotation: Any
    default: Any
    doc: str


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
    if not isinstance(options, Mapping | ConfigDict):
        return [f"{key} = {options!r}: must be a group of options, such as {key}.NAME = VALUE"]
    listing = ", ".join(allowed) if allowed else "none"
    messages = [
        f"{key}.{name} = {value!r}: no such option{did_you_mean(name, allowed)}; options are {listing}"
        for name, value in options.items()
        if name not in allowed
    ]
    kinds = _annotations(function)
    messages += [
        f"{key}.{name} = {value!r}: must be {_kind_name(kinds[name])}"
        for name, value in options.items()
        if name in allowed and not _is_kind(value, kinds.get(name, Any))
    ]
    required = [p.name for p in parameters if p.name in allowed and p.default is inspect.Parameter.empty]
    return messages + [f"{key}.{name} is missing: it has no default" for name in required if name not in options]


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}  # the user's own, annotated with what is not there at run time


def _is_kind(value: Any, kind: Any) -> bool:
    """Whether a value of a configuration fits a type annotation; annotations of other kinds fit everything."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_is_kind(value, choice) for choice in inner)
    if kind in (int, float, str, bool, types.NoneType):
        fits = isinstance(value, int | float if kind is float else kind)
        return fits and (kind is bool or not isinstance(value, bool))
    if origin not in (tuple, Sequence):
        return True
    if not isinstance(value, list | tuple):
        return False
    if origin is tuple and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(_is_kind, value, inner))
    return all(_is_kind(item, inner[0]) for item in value)


def _kind_name(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # The short ones first: "None or a sequence, ..." does not read as if None were an element.
        return " or ".join(sorted((_kind_name(choice) for choice in inner), key=len))
    if origin is tuple and Ellipsis not in inner:
        return "(" + ", ".join(_kind_name(choice) for choice in inner) + ")"
    if origin in (tuple, Sequence):
        return f"a sequence, as in (A, B) or (A,), each {_kind_name(inner[0])}"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", types.NoneType: "None"}
    return names.get(kind, str(kind))
