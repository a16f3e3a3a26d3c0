"""The forward pass of inference: images with values 0..255 in, logits out."""

import jax
import jax.numpy as jnp

from flaxseg.models.protocol import SegmentationModel, Variables


def inference_logits(variables: Variables, image: jax.Array, *, model: SegmentationModel) -> jax.Array:
    """Returns the logits float32[B, H, W, num_classes] of images [B, H, W, C] with values 0..255."""
    return jnp.asarray(model.apply(variables, normalize(image, model), train=False))


def normalize(image: jax.Array, model: SegmentationModel) -> jax.Array:
    """Returns images [B, H, W, C] with values 0..255 as the network expects them, float32.

    The result is `(image - model.mean) / model.std`. A mean and std of three channels also serve images with another
    number of channels: they repeat in turn, and are averaged for a single channel, in the same way as the kernel of a
    pretrained first convolution is adapted.
    """
    mean, std = (_per_channel(values, image.shape[-1]) for values in (model.mean, model.std))
    return (image.astype(jnp.float32) - mean) / std


def _per_channel(values: float | tuple[float, ...], channels: int) -> jax.Array:
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (3,) or channels == 3:
        return array
    return array.mean() if channels == 1 else array[jnp.arange(channels) % 3]
