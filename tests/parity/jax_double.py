"""Logits and gradients of flaxseg's networks in float32 and float64, and their differences from `torch_double`'s."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from differences import FLOOR, difference, gradient_difference
from flax import traverse_util
from references import bright_image, image_label, label

from flaxseg.losses import LOSSES

GRADIENT_TOLERANCE = 1e-3
DOUBLE_TOLERANCE = 1e-10
DOUBLE_GRADIENT_TOLERANCE = 1e-8

ATTEMPTS = 4
"""The number of images, and then of images of half the size, on which gradients in float32 are compared with flaxseg's
own in float64 until there is no difference: a single unit whose ReLU is on or off only by rounding can change a
gradient by more than is allowed, in PyTorch, too."""

LIMITS = {
    "gradient": GRADIENT_TOLERANCE,
    "float64": DOUBLE_TOLERANCE,
    "gradient, float64": DOUBLE_GRADIENT_TOLERANCE,
    "train, float64": DOUBLE_GRADIENT_TOLERANCE,
}
"""The columns of `compare_double`, with the largest difference that is allowed."""


Convert = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Converts tensors by their PyTorch names to arrays by their paths in the network's variables."""


@contextmanager
def in_float64() -> Iterator[None]:
    """Computes in float64 what is written in the `with` block.

    JAX's attention, which computes its softmax in float32 even then, is replaced by its formula.
    """
    with jax.enable_x64(True), mock.patch.object(jax.nn, "dot_product_attention", _attention):
        yield


def _attention(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: Any = None) -> Any:
    """Returns the values' means with the weights softmax(scale * query . key + bias), [B, T, N, H]."""
    scores = jnp.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if bias is None else scores + bias
    scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), value)


def double_model(module: nn.Module) -> Any:
    """Returns a network, or a part of one, that computes in float64."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        if field.name == "dtype":
            changed["dtype"] = jnp.float64
        elif isinstance(value, nn.Module) and field.name != "parent":
            changed[field.name] = double_model(value)
    return module.clone(**changed)


def double_variables(variables: Any) -> Any:
    """Returns the variables in float64."""
    return jax.tree.map(lambda value: np.asarray(value, np.float64), variables)


def _without_dropout(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)


Gradients = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]
"""Returns, for images, the logits, and the gradients by the paths of the parameters."""


def gradients_fn(model: nn.Module, variables: Any, *, train: bool = False) -> Gradients:
    """Returns a function that computes the gradients of the sum of all heads' cross-entropies."""
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    num_classes: int = model.num_classes  # type: ignore[attr-defined]

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradients(params: Any, rest: Any, x: Any, target: Any) -> tuple[jax.Array, jax.Array]:
        collections = ["auxiliary", "image_logits", *(["batch_stats"] if train else [])]
        with nn.intercept_methods(_without_dropout):
            logits, extra = model.apply({"params": params, **rest}, x, train=train, mutable=collections)
        total = jnp.zeros((), logits.dtype)
        for each in (logits, *jax.tree.leaves(extra.get("auxiliary", {}))):
            total += LOSSES["cross_entropy"](each, target)
        for each in jax.tree.leaves(extra.get("image_logits", {})):
            total += LOSSES["cross_entropy"](each, image_label(each.shape[-1], len(x)))
        return total, logits

    def call(images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        # As an argument, because XLA would spend long on the gradient of a constant.
        target = label(images.shape[1:3], num_classes, len(images))
        found, logits = gradients(variables["params"], rest, images, target)
        flat = traverse_util.flatten_dict({"params": found}, sep="/")
        return np.asarray(logits), {path: np.asarray(value) for path, value in flat.items()}

    return call


def single_difference(
    single: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    double: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    images: Callable[[tuple[int, int], int], np.ndarray],
    size: tuple[int, int],
) -> tuple[float, str]:
    """Returns the difference of gradients in float32 from those in float64, and where it is; see ATTEMPTS.

    Args:
      single: returns the gradients for images in float32.
      double: returns them in float64.
      images: returns images of a size, other ones for each number.
      size: the height and width of the first images.
    """
    found = []
    for each in (size, (size[0] // 2, size[1] // 2)):
        for number in range(ATTEMPTS):
            x = images(each, number)
            with in_float64():
                exact = double(np.float64(x))
            found.append(gradient_difference(single(x), exact, FLOOR))
            if found[-1][0] <= GRADIENT_TOLERANCE:
                return found[-1]
    return min(found)


def expected_gradients(reference: Any, prefix: str, convert: Convert) -> dict[str, np.ndarray]:
    """Returns the reference's gradients by the paths of the parameters; {} if it has none."""
    given = {name.removeprefix(prefix): reference[name] for name in reference.files if name.startswith(prefix)}
    return {path: value for path, value in convert(given).items() if path.startswith("params/")} if given else {}


def compare_double(
    model: nn.Module,
    variables: Any,
    reference: Any,
    convert: Convert,
    *,
    channels: int = 3,
    train_batch: int = 2,
) -> dict[str, tuple[float, str]]:
    """Returns the differences of LIMITS' columns, each with the parameter or size where it is; {} without references.

    Args:
      model: the network.
      variables: its variables with the reference's weights, float32.
      reference: the file with what `torch_double.double_results` returned.
      convert: see `Convert`.
      channels: the number of channels of the images.
      train_batch: the number of images for gradients in training mode.
    """
    names = [name for name in reference.files if name.startswith("double/")]
    sizes = [tuple(map(int, name.removeprefix("double/").split("x"))) for name in names]
    if not names:
        return {}

    def images(size: tuple[int, int], number: int = 0, batch: int = 2) -> np.ndarray:
        return bright_image(size, channels, batch, number)

    expected = expected_gradients(reference, "gradient/", convert)
    with in_float64():
        wide, given = double_model(model), double_variables(variables)
        wide_gradients, predict = gradients_fn(wide, given), jax.jit(functools.partial(wide.apply, train=False))
        logits, found = wide_gradients(np.float64(images(sizes[0])))
        all_logits = [logits, *(np.asarray(predict(given, np.float64(images(size)))) for size in sizes[1:])]
        result = {}
        result["float64"] = _worst_logits(dict(zip(names, all_logits, strict=True)), reference)
        result["gradient, float64"] = gradient_difference(found, expected)
        expected = expected_gradients(reference, "train_gradient/", convert)
        if expected:
            x = np.float64(images(sizes[0], batch=train_batch))
            result["train, float64"] = gradient_difference(gradients_fn(wide, given, train=True)(x)[1], expected)
    gradients = gradients_fn(model, variables)
    result["gradient"] = single_difference(lambda x: gradients(x)[1], lambda x: wide_gradients(x)[1], images, sizes[0])
    return result


def _worst_logits(found: Mapping[str, np.ndarray], reference: Any) -> tuple[float, str]:
    """Returns the largest difference of the logits, and the size of the image."""
    each = {name: difference(main_logits(logits, reference[name]), reference[name]) for name, logits in found.items()}
    worst = max(each, key=lambda name: each[name])
    return each[worst], worst.removeprefix("double/")


def main_logits(logits: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the logits that the reference has: a network with one class has two here, the first with the logit 0."""
    return logits[..., 1:] if reference.shape[-1] == 1 else logits
