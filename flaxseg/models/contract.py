"""The contract of a network of your own, checked by `check_contract`."""

from typing import Any

import jax
import jax.numpy as jnp

from flaxseg.errors import ArgumentError, reason
from flaxseg.models.arguments import channel_values

_COLLECTIONS = ("params", "batch_stats")
"""The collections of variables that training keeps."""

_WRITTEN = ("batch_stats", "auxiliary")
"""The collections that a training step lets a network write."""

_REMEDY = "see flaxseg.models.SegmentationModel and examples/own_model.py"


def check_contract(
    model: Any, *, num_classes: int, image_shape: tuple[int, int, int] = (64, 64, 3), name: str = ""
) -> None:
    """Checks that a network has what training, evaluation and export need of a `SegmentationModel`.

    Inference and a training step's forward pass are traced, but nothing is computed.

    Args:
      model: the network.
      num_classes: the number of classes, and so of the channels of its logits.
      image_shape: (H, W, C) of the images to trace it with.
      name: its name in messages; "" for that of its type.

    Raises:
      ArgumentError: it lacks an attribute or a method, cannot take such images, returns something other than the logits
        float32[B, H, W, num_classes], has no parameters, or has variables that training would not keep.
    """
    named = name or type(model).__name__
    _check_attributes(model, num_classes, named)
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    key = jax.eval_shape(jax.random.key, 0)
    variables = _traced("init(key, image, train=False)", named, lambda k, x: model.init(k, x, train=False), key, image)
    unkept = sorted(set(variables) - {*_COLLECTIONS, *_WRITTEN, "image_logits", "intermediates"})
    if unkept or "params" not in variables:
        found = f"has variables of the collection {unkept[0]!r}" if unkept else "has no parameters"
        raise ArgumentError(
            "model", named, f"{found}; variables must be 'params', and 'batch_stats' for running statistics; {_REMEDY}"
        )
    kept = {collection: variables[collection] for collection in _COLLECTIONS if collection in variables}
    expected = (1, *image_shape[:2], num_classes)

    call = "apply(variables, image, train=False)"
    _check_logits(_traced(call, named, lambda v, x: model.apply(v, x, train=False), kept, image), expected, named, call)

    def training(given: Any, x: jax.Array, dropout_key: jax.Array) -> Any:
        return model.apply(given, x, train=True, mutable=[*_WRITTEN], rngs={"dropout": dropout_key})

    call = f"apply(variables, image, train=True, mutable={[*_WRITTEN]}, rngs={{'dropout': key}})"
    returned = _traced(call, named, training, kept, image, key)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ArgumentError(
            "model", named, f"{call} returns {_shown(returned)}; it must return the logits and the written variables"
        )
    logits, written = returned
    _check_logits(logits, expected, named, call)
    for auxiliary in jax.tree.leaves(written.get("auxiliary", {})):
        _check_logits(auxiliary, expected, named, "a head in the collection 'auxiliary'")


def _check_attributes(model: Any, num_classes: int, name: str) -> None:
    for attribute in ("num_classes", "mean", "std", "init", "apply"):
        if not hasattr(model, attribute):
            raise ArgumentError(
                "model", name, f"has no {attribute}; a network has num_classes, mean, std, init and apply; {_REMEDY}"
            )
    if model.num_classes != num_classes:
        raise ArgumentError("model", name, f"num_classes is {model.num_classes}; it must be the given {num_classes}")
    for attribute in ("mean", "std"):
        try:
            channel_values(attribute, getattr(model, attribute), positive=attribute == "std")
        except ArgumentError as error:
            raise ArgumentError("model", name, str(error)) from error
    try:
        hash(model)
    except TypeError as error:
        raise ArgumentError(
            "model",
            name,
            f"cannot be hashed ({error}), which jax.jit requires; use numbers, strings and tuples as fields",
        ) from error


def _traced(call: str, name: str, function: Any, *arguments: Any) -> Any:
    """Returns the shapes of what a function returns."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # The network may raise anything.
        shape = list(arguments[1].shape)
        raise ArgumentError(
            "model", name, f"{call} fails for an image {shape}: {type(error).__name__}: {reason(error)}; {_REMEDY}"
        ) from error


def _check_logits(logits: Any, expected: tuple[int, ...], name: str, call: str) -> None:
    if not isinstance(logits, jax.ShapeDtypeStruct) or (logits.shape, logits.dtype) != (expected, jnp.float32):
        raise ArgumentError(
            "model", name, f"{call} returns {_shown(logits)}; a network has to return logits float32{list(expected)}"
        )


def _shown(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"
