"""The forward pass: pictures of 0..255 in, logits out; in training also in parts, and with frozen modules."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxseg.models.layers.normalization import BatchNorm
from flaxseg.optimizers.groups import IsFrozen


def inference_logits(variables: Any, image: jax.Array, *, model: nn.Module) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of pictures [B, H, W, C] with values 0..255."""
    return jnp.asarray(model.apply(variables, normalize(image, model), train=False))


def training_logits(
    variables: Any,
    image: jax.Array,
    dropout_key: jax.Array,
    *,
    model: nn.Module,
    frozen: IsFrozen | None = None,
    accumulate_steps: int = 1,
) -> tuple[jax.Array, list[jax.Array], Any]:
    """Returns the logits of a batch in training, those of auxiliary heads, and the new batch statistics.

    Args:
      variables: `params` and `batch_stats`.
      image: [B, H, W, C] with values 0..255.
      dropout_key: random key.
      model: the network.
      frozen: modules that behave as in inference: their BatchNorm keeps and uses its running statistics, and they
        drop nothing.
      accumulate_steps: parts that the batch is computed in, one after the other, so that the activations of one part
        at a time are in memory; each part is computed again for the gradient. B has to be a multiple of it. What
        is made of the logits, such as any loss, is made of all of them, and is that of the whole batch. BatchNorm
        however has the statistics of each part, as it would on smaller batches, and updates its averages by each;
        and dropout draws anew.

    Returns:
      float32[B, H, W, num_classes]; a list of the same shape for each auxiliary head; and the tree `batch_stats`.
    """
    forward = functools.partial(_forward, variables["params"], model=model, frozen=frozen)
    if accumulate_steps == 1:
        batch_stats, logits = forward(variables["batch_stats"], (image, dropout_key))
    else:
        if image.shape[0] % accumulate_steps:
            raise ValueError(f"accumulate_steps = {accumulate_steps}: does not divide the batch of {image.shape[0]}")
        keys = jax.random.split(dropout_key, accumulate_steps)
        # In a scan nothing could be merged with the first computation, so nothing has to keep XLA from it.
        part = jax.checkpoint(forward, prevent_cse=False)
        batch_stats, logits = jax.lax.scan(part, variables["batch_stats"], (_parts(image, accumulate_steps), keys))
        logits = jax.tree.map(_whole, logits)
    main, side = logits
    return main, jax.tree.leaves(side), batch_stats


def _forward(
    params: Any, batch_stats: Any, given: tuple[jax.Array, jax.Array], *, model: nn.Module, frozen: IsFrozen | None
) -> tuple[Any, tuple[jax.Array, Any]]:
    image, dropout_key = given
    freezing = contextlib.nullcontext() if frozen is None else nn.intercept_methods(_Freeze(frozen))
    with freezing:
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            normalize(image, model),
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": dropout_key},
        )
    return updates.get("batch_stats", {}), (logits, updates.get("auxiliary", {}))


def _parts(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] -> [count, B / count, ...]. Part i has the examples i, i + count, ...: as many of each device."""
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def _whole(x: jax.Array) -> jax.Array:
    """Undoes _parts()."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])


class _Freeze:
    """Puts BatchNorm and Dropout that are frozen into the state of inference before they are called."""

    switches: ClassVar = {
        BatchNorm: "use_running_average",
        nn.BatchNorm: "use_running_average",
        nn.Dropout: "deterministic",
    }

    def __init__(self, frozen: IsFrozen) -> None:
        self._frozen = frozen

    def __call__(self, call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module, path = context.module, "/".join(context.module.path)
        switch = next((name for kind, name in self.switches.items() if isinstance(module, kind)), None)
        # A pattern may be of a module's parameters alone, such as `encoder/.*/scale`.
        is_frozen = self._frozen(path) or self._frozen(f"{path}/scale")
        if switch is None or not is_frozen or context.method_name != "__call__":
            return call(*args, **kwargs)
        given = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
        if given.arguments.get(switch) is None:
            # Flax does not let the fields of a bound module be set; it reads this one anew in each call.
            object.__setattr__(module, switch, True)
        else:
            given.arguments[switch] = True
        return call(*given.args[1:], **given.kwargs)


def normalize(image: jax.Array, model: nn.Module) -> jax.Array:
    """Returns a picture of 0..255 as the network wants it: `(image - model.mean) / model.std`, float32.

    Values for RGB are taken in turn by pictures of other channels, and averaged for one channel, as those of a
    pretrained first convolution are.
    """
    mean, std = (_for_channels(values, image.shape[-1]) for values in (model.mean, model.std))
    return (image.astype(jnp.float32) - mean) / std


def _for_channels(values: float | tuple[float, ...], channels: int) -> jax.Array:
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (3,) or channels == 3:
        return array
    return array.mean() if channels == 1 else array[jnp.arange(channels) % 3]
