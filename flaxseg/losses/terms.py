"""The terms of a weighted sum of losses: each a function with its weight and its options, found and checked once."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flaxseg.errors import ArgumentError, is_number, shown
from flaxseg.registry import look_up, no_such_option, option_names

Loss = Callable[..., jax.Array]
"""(logits float[B, H, W, K], label integer[B, H, W], *, options) -> float32 scalar."""

NAMES_ELSEWHERE = {
    "ce": "cross_entropy",
    "crossentropy": "cross_entropy",
    "cross_entropy_loss": "cross_entropy",
    "nll": "cross_entropy",
    "softmax_cross_entropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
    "ohem": "ohem_cross_entropy",
    "iou": "jaccard",
    "lovasz": "lovasz_softmax",
    "gdl": "generalized_dice",
}
"""What losses are called elsewhere, in lower case."""

_OPTIONS_ELSEWHERE = {
    "ignore_index": "leave it out: pixels labeled 255 are always ignored",
    "ignore_label": "leave it out: pixels labeled 255 are always ignored",
    "weight": "use class_weights",
    "mode": "leave it out: labels are class indices",
    "from_logits": "leave it out: losses take logits",
    "reduction": "leave it out: losses are means over the valid pixels of the batch",
}
"""What to do about options that losses have elsewhere, and here not or in another form."""


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Attributes:
      name: what it is called in `parts` and in messages.
      function: the loss.
      weight: its weight.
      options: its keyword arguments.
    """

    name: str
    function: Loss
    weight: float | jax.Array
    options: dict[str, Any]

    def __call__(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Returns the loss, without its weight; if the weight is an array of 0, its gradient is 0, too, never NaN.

        Raises:
          ArgumentError: an option does not fit the logits, or the function returns no scalar.
        """
        try:
            loss = self.function(self._where_weighted(logits), label, **self.options)
        except ArgumentError as error:
            raise error.under(f"options.{self.name}") from error
        if not is_scalar(loss) or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
            raise ArgumentError(
                "weights",
                self.name,
                f"this loss returned {returned(loss)}; it must return one number for the whole batch, a float scalar, "
                "such as the mean over valid pixels",
            )
        return loss

    def weighted(self, loss: jax.Array) -> jax.Array:
        """Returns a loss times the weight; 0 for a weight that is an array of 0, even where the loss is not finite."""
        return self._where_weighted(self.weight * loss)

    def _where_weighted(self, value: jax.Array) -> jax.Array:
        if not isinstance(self.weight, jax.Array):
            return value
        return jnp.where(self.weight != 0, value, jnp.zeros_like(value))


def make_terms(weights: Any, options: Any, table: Mapping[str, Loss]) -> list[Term]:
    """Returns the terms of a sum, without those of weight 0.

    Args:
      weights: the weight of each loss, by its name in the table, its `package.module:function`, or the function itself.
      options: the keyword arguments of each loss, by the same keys; None for none.
      table: losses by name.

    Raises:
      ArgumentError: `weights` is no mapping, or a name, function or option does not fit.
    """
    _check_mapping(weights)
    given = dict(options or {})
    terms: list[Term] = []
    for key, weight in weights.items():
        if isinstance(weight, jax.Array) or weight:
            function = key if callable(key) else find_loss(key, table, argument="weights")
            term = Term(loss_name(key), function, weight, dict(given.get(key, {})))
            _check_options(term, table)
            terms.append(term)
    names = [term.name for term in terms]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(
            "weights", names, f"two losses are called {', '.join(repeated)}; give functions names of their own"
        )
    return terms


def find_loss(name: Any, table: Mapping[str, Loss], *, argument: str) -> Loss:
    """Returns the loss that a name refers to.

    Args:
      name: a name in the table, or `package.module:function`.
      table: losses by name.
      argument: the caller's argument that holds the name, for the message.

    Raises:
      ArgumentError: there is none; the message has the name that the loss has here, or the nearest.
    """
    if not isinstance(name, str):
        raise ArgumentError(argument, name, "is neither the name of a loss nor a function (logits, label) -> scalar")
    here = NAMES_ELSEWHERE.get(name.lower())
    if name not in table and here in table:
        known = ", ".join(sorted(table))
        raise ArgumentError(argument, name, f"unknown; it is called {here!r} here. Known are {known}")
    return look_up(name, table, argument=argument)


def option_hint(option: str) -> str:
    """Returns what an error adds about an option that losses have elsewhere, as a clause; "" if it is unknown."""
    return f"; {_OPTIONS_ELSEWHERE[option]}" if option in _OPTIONS_ELSEWHERE else ""


def loss_name(key: Any) -> str:
    """Returns what a loss is called: its name, or that of its function."""
    if isinstance(key, str):
        return key
    named = getattr(key, "func", key)  # That of a functools.partial.
    return str(getattr(named, "__name__", type(named).__name__))


def is_scalar(value: Any) -> bool:
    """Returns whether a value is a number, or an array [] of one."""
    return is_number(value) or getattr(value, "shape", None) == ()


def returned(value: Any) -> str:
    """Returns what a function returned in the words of an error, such as `float32[8, 64, 64]`."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return shown(value) if value is None or isinstance(value, str) else f"a {type(value).__name__}"


def _check_mapping(weights: Any) -> None:
    if hasattr(weights, "items"):
        return
    if isinstance(weights, str) or callable(weights):
        keys = [weights]
    else:
        keys = list(weights) if isinstance(weights, list | tuple | set | frozenset) else []
    entries = ", ".join(f"{_written(key)}: 1.0" for key in keys) or '"cross_entropy": 1.0'
    raise ArgumentError(
        "weights", weights, f"must be a dict of losses and their weights; write weighted_sum({{{entries}}})"
    )


def _written(key: Any) -> str:
    return repr(key) if isinstance(key, str) else loss_name(key)


def _check_options(term: Term, table: Mapping[str, Loss]) -> None:
    """Raises ArgumentError for options that a loss does not take."""
    # A function of the user's own may have the name of a loss in the table.
    is_known = table.get(term.name) is term.function
    known = option_names(term.function) if is_known else _keywords(term.function)
    for option, value in term.options.items():
        if known is not None and option not in known:
            problem = no_such_option(option, known, hint=option_hint(option))
            raise ArgumentError(f"options.{term.name}.{option}", value, problem)


def _keywords(function: Loss) -> list[str] | None:
    """Returns the names of a function's options; None if they are not known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # A built-in function has no signature.
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    by_name = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [each.name for each in parameters[2:] if each.kind in by_name] + [
        each.name for each in parameters[:2] if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]
