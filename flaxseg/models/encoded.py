"""Images in the form of a frozen encoder's features of them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class EncodedImages:
    """A batch of images as the features that an encoder returns; `EncoderDecoder` takes it in the place of images."""

    features: tuple[Any, ...]
    """[B, h, w, C] each; None for those that the decoder does not use, of which it may know the shape."""
    shapes: tuple[tuple[int, ...], ...] = struct.field(pytree_node=False)
    """(h, w, C) of each feature."""
    size: tuple[int, int] = struct.field(pytree_node=False)
    """Height and width of the images before padding."""

    def __len__(self) -> int:
        """Returns the number of images."""
        return int(jax.tree.leaves(self.features)[0].shape[0])

    def all_features(self) -> list[jax.Array]:
        """Returns every feature, with zeros for those that are not used."""
        return [
            jnp.zeros((len(self), *shape)) if feature is None else feature
            for feature, shape in zip(self.features, self.shapes, strict=True)
        ]
