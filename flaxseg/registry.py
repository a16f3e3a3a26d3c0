"""Looks up entries of tables (models, losses, datasets, ...) by name, and lists and checks their options."""

import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.errors import ArgumentError, did_you_mean, shown


def look_up(
    name: str,
    table: Mapping[str, Callable[..., Any] | str],
    *,
    argument: str = "name",
    hint: Callable[[str], str] = lambda name: "",
) -> Callable[..., Any]:
    """Returns the table entry, or the user's function, that a name refers to.

    Args:
      name: a name in the table, or `package.module:function` for a user's function.
      table: the entries that flaxseg provides, by name; the full name of a function is imported on use.
      argument: the name of the caller's argument that holds `name`, for the error message.
      hint: returns what the message adds about an unknown name; "" for the nearest name.

    Raises:
      ArgumentError: an unknown name (the message lists the known ones and the nearest), or a module or function that
        cannot be imported.
    """
    if name in table:
        entry = table[name]
        return _import_function(entry, argument) if isinstance(entry, str) else entry
    remedy = hint(name)
    if ":" in name and not remedy:
        return _import_function(name, argument)
    raise ArgumentError(
        argument,
        name,
        f"unknown{remedy or did_you_mean(name, table) or '.'} Known are {', '.join(sorted(table))}, and "
        "'package.module:function' for a function of your own",
    )


def _import_function(name: str, argument: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # The module may raise anything, and so does a name that no module can have.
        reason = f"{error}" if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ArgumentError(
            argument,
            name,
            f"module {module_name!r} cannot be imported ({reason}); "
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
      doc: its description, from the `Args:` or `Attributes:` section of the docstring, on one line; "" without one.
    """

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def is_required(self) -> bool:
        """Whether the option has no default."""
        return self.default is inspect.Parameter.empty


@typing.runtime_checkable
class HasOptions(typing.Protocol):
    """An entry of a table that lists its options itself, as an architecture of `flaxseg.models` does."""

    def options(self) -> list[Option]:
        """Returns the options in the order of their declaration."""


Entry = Callable[..., Any] | HasOptions
"""An entry of a table."""


def options_of(entry: Entry) -> list[Option]:
    """Returns the options of an entry: what its `options()` lists, or a function's keyword-only arguments."""
    return entry.options() if isinstance(entry, HasOptions) else argument_options(entry)


def argument_options(function: Callable[..., Any]) -> list[Option]:
    """Returns the keyword-only arguments of a function or class, described by the `Args:` section of its docstring.

    A `functools.partial` has the arguments of its function, with its own defaults.
    """
    inner = function.func if isinstance(function, functools.partial) else function
    annotations, docs = _annotations(inner), docstring_entries(inner, "Args")
    return [
        Option(name, annotations.get(name, Any), parameter.default, docs.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]


def field_options(cls: type) -> list[Option]:
    """Returns the fields of a dataclass or Flax module, described by the `Attributes:` section of its docstring.

    Inherited fields that it does not describe have the description of the base class. The fields `parent` and `name`
    of every Flax module are omitted.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        docs |= docstring_entries(base, "Attributes")
    return [
        Option(field.name, field.type, _default_of(field), docs.get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.name not in ("parent", "name")
    ]


def docstring_entries(documented: Any, section: str) -> dict[str, str]:
    """Returns the descriptions in a section of a Google-style docstring, by name, each on one line.

    Args:
      documented: a function or class.
      section: the section's title, such as "Args" or "Attributes".
    """
    _, found, text = (inspect.getdoc(documented) or "").partition(f"{section}:\n")
    descriptions: dict[str, str] = {}
    name = ""
    for line in text.splitlines() if found else ():
        if not line.startswith(" "):
            break
        if entry := _DESCRIPTION.match(line):
            name = entry[1]
            descriptions[name] = entry[2]
        elif name:
            descriptions[name] += f" {line.strip()}"
    return descriptions


_DESCRIPTION = re.compile(r" {1,3}\*{0,2}(\w+): *(.*)")
"""A line of a docstring that begins the description of an argument or attribute."""


def option_names(entry: Entry) -> list[str]:
    """Returns the names of an entry's options."""
    return [option.name for option in options_of(entry)]


def takes_option(entry: Entry, name: str) -> bool:
    """Returns whether an entry has an option of this name."""
    return _takes_any_option(entry) or name in option_names(entry)


def option_errors(
    entry: Entry,
    options: Mapping[str, Any],
    *,
    key: str,
    given: Iterable[str] = (),
    hint: Callable[[str], str] = lambda name: "",
) -> list[str]:
    """Returns a message for each option that is missing, unknown, or of the wrong type; none if all are valid.

    Args:
      entry: a function or another entry of a table. A function with `**kwargs` takes every option.
      options: names and values of the options.
      key: what the messages put before an option's name, such as the configuration key that holds the options.
      given: options that flaxseg sets itself, which are therefore neither missing nor allowed.
      hint: returns what a message adds about an unknown option; "" for the nearest name.
    """
    if _takes_any_option(entry):
        return []
    allowed = {option.name: option for option in options_of(entry) if option.name not in set(given)}
    if not isinstance(options, Mapping | ConfigDict):
        return [f"{key} = {shown(options)}: must be a group of options, as in {key}.NAME = VALUE"]
    messages = [
        f"{key}.{name} = {shown(value)}: {no_such_option(name, allowed, hint=hint(name))}"
        for name, value in options.items()
        if name not in allowed
    ]
    messages += [
        f"{key}.{name} = {shown(value)}: {_type_problem(allowed[name])}"
        for name, value in options.items()
        if name in allowed and not _has_type(value, allowed[name].annotation)
    ]
    required = [option.name for option in allowed.values() if option.is_required]
    return messages + [f"{key}.{name} is missing: it has no default" for name in required if name not in options]


def no_such_option(name: str, options: Iterable[str], *, hint: str = "") -> str:
    """Returns what a message says about an option that does not exist.

    Args:
      name: the option.
      options: those that exist.
      hint: what to use instead, beginning with a semicolon; "" for the nearest name.
    """
    names = list(options)
    return f"no such option{hint or did_you_mean(name, names)}; options are {', '.join(names) or 'none'}"


_UNIONS = (typing.Union, types.UnionType)


def type_name(annotation: Any) -> str:
    """Returns the name of a type annotation, such as `int`, `None or string` or `tuple of (float, float)`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        # Short names first, so that "None" does not read as an element of a tuple.
        return " or ".join(sorted((type_name(choice) for choice in inner), key=len))
    if origin is tuple and Ellipsis not in inner:
        return f"({', '.join(map(type_name, inner))})"
    if origin in (tuple, Sequence):
        name = type_name(inner[0])
        return f"tuple of ({name})" if typing.get_origin(inner[0]) in _UNIONS else f"tuple of {name}"
    names = {int: "int", float: "float", str: "string", bool: "bool", types.NoneType: "None", Any: "any"}
    return names.get(annotation, str(annotation))


def _takes_any_option(entry: Entry) -> bool:
    if isinstance(entry, HasOptions):
        return False
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(entry).parameters.values())


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}  # A user's function may be annotated with names that exist for type checkers only.


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _type_problem(option: Option) -> str:
    name = type_name(option.annotation)
    is_nested = re.search(r"tuple of (tuple|\([^)]*,)", name)
    example = "((A, B), (C, D)) or ((A, B),)" if is_nested else "(A, B) or (A,)"
    if "tuple of" not in name:
        return f"must be of type {name}"
    # What the elements are, such as one number for each class, is only said by its description.
    meaning = f"; {option.name}: {option.doc.removesuffix('.')}" if option.doc else ""
    return f"must be of type {name}, as in {example}{meaning}"


def _has_type(value: Any, annotation: Any) -> bool:
    """Returns whether a value has a type; every value has the types that type_name() has no short name for."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return any(_has_type(value, choice) for choice in inner)
    if annotation in (int, float, str, bool, types.NoneType):
        has_type = isinstance(value, int | float if annotation is float else annotation)
        return has_type and (annotation is bool or not isinstance(value, bool))
    if origin not in (tuple, Sequence):
        return True
    if not isinstance(value, list | tuple):
        return False
    if origin is tuple and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(_has_type, value, inner))
    return all(_has_type(item, inner[0]) for item in value)
