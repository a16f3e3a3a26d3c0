"""The forward pass of inference: images with values 0..255 in, logits out."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from flaxseg.models.protocol import SegmentationModel, Variables
from flaxseg.shapes import check_channels


def inference_logits(variables: Variables, image: jax.Array, *, model: SegmentationModel) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of images [B, H, W, C] with values 0..255."""
    with channels_checked(image):
        return jnp.asarray(model.apply(variables, normalize(image, model), train=False))


def padded_logits(
    variables: Variables, image: jax.Array, extent: jax.Array | None, *, model: SegmentationModel
) -> jax.Array:
    """Returns the logits of images that lie in the upper left of larger arrays.

    Networks pad normalized images with zeros; so does this function, so that the padding changes nothing.

    Args:
      variables: `params` and `batch_stats` of the network.
      image: [B, H, W, C] with values 0..255.
      extent: int32[B, 2], the height and width of each image; None if images fill their arrays.
      model: the network.

    Returns:
      float32[B, H, W, K].
    """
    normalized = normalize(image, model)
    if extent is not None:
        rows, columns = jnp.arange(image.shape[1])[:, None], jnp.arange(image.shape[2])
        inside = (rows < extent[:, 0, None, None]) & (columns < extent[:, 1, None, None])
        normalized = jnp.where(inside[..., None], normalized, 0)
    with channels_checked(image):
        return jnp.asarray(model.apply(variables, normalized, train=False))


def normalize(image: jax.Array, model: SegmentationModel) -> jax.Array:
    """Returns images [B, H, W, C] with values 0..255 as the network expects them, float32.

    The result is `(image - model.mean) / model.std`. A mean and std of three channels also serve images with another
    number of channels: they repeat in turn, and are averaged for a single channel, in the same way as the kernel of a
    pretrained first convolution is adapted.

    Raises:
      ArrayError: the mean or std has another number of values than images have channels.
    """
    for values in (model.mean, model.std):
        if isinstance(values, tuple) and len(values) not in (1, 3):
            check_channels(image, len(values))
    mean, std = (_per_channel(values, image.shape[-1]) for values in (model.mean, model.std))
    return (image.astype(jnp.float32) - mean) / std


@contextlib.contextmanager
def channels_checked(image: Any) -> Iterator[None]:
    """Turns Flax's error about the shape of the first kernel into an ArrayError about the images.

    Args:
      image: what a network is applied to within this context: images [B, H, W, C], or a frozen encoder's features.
    """
    try:
        yield
    except ScopeParamShapeError as error:
        needed, existing = (
            tuple(map(int, re.findall(r"\d+", shape))) for shape in re.findall(r"\(([\d, ]*)\)", str(error))[-2:]
        )
        channels = image.shape[-1] if hasattr(image, "shape") else None
        if len(existing) < 2 or needed != (*existing[:-2], channels, existing[-1]):
            raise
        made_for = existing[-2]
    else:
        return
    # Outside of the handler, so that the message is not preceded by Flax's.
    check_channels(image, made_for)


def padding_value(model: SegmentationModel, channels: int) -> tuple[float, ...]:
    """Returns the value of each channel, 0..255, that `normalize` maps to 0, which networks pad images with."""
    return tuple(float(value) for value in np.broadcast_to(_per_channel(model.mean, channels), channels))


def _per_channel(values: float | tuple[float, ...], channels: int) -> jax.Array:
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (3,) or channels == 3:
        return array
    return array.mean() if channels == 1 else array[jnp.arange(channels) % 3]
