"""Errors about calls with arguments that a function does not have, with the names that they have here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from flaxseg.errors import ArgumentError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def arguments_checked(elsewhere: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator that raises ArgumentError for keywords that do not exist and for too many positions.

    Args:
      elsewhere: what to use instead of arguments of other names, as in `{"lr": "use schedule"}`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters
        by_name = [name for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY]
        first = [name for name in parameters if name not in by_name]

        @functools.wraps(function)
        def checked(*args: P.args, **keywords: P.kwargs) -> R:
            for name in keywords:
                if name not in parameters:
                    hint = f"; {elsewhere[name]}" if name in elsewhere else did_you_mean(name, parameters)
                    raise ArgumentError(
                        name,
                        keywords[name],
                        f"{_called(function)} has no such argument{hint}; arguments are {', '.join(parameters)}",
                    )
            if len(args) > len(first):
                surplus: Any = args[len(first)]
                raise ArgumentError(
                    f"argument {len(first) + 1}",
                    surplus,
                    f"{_called(function)} takes {' and '.join(first)} by position; give the others by name: "
                    f"{', '.join(by_name)}",
                )
            return function(*args, **keywords)

        return checked

    return decorate


def _called(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))
