"""What training, evaluation and export require of a model."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from flaxseg.models.arguments import ChannelValues

Variables = Mapping[str, Any]
"""Collections of arrays by name, as `SegmentationModel.init` returns them: `params` and perhaps `batch_stats`."""


@runtime_checkable
class SegmentationModel(Protocol):
    """A segmentation network: a Flax module with a few attributes, or a wrapper that behaves like one.

    It is hashable, so that `jax.jit` takes it as a static argument. It computes logits, float32[B, H, W, num_classes],
    of normalized images, float[B, H, W, C], of any size; one size is enough for a run that resizes all images to it.
    `check_contract` checks all this. See `examples/own_model.py`.

    Collections of variables besides "params":
      batch_stats: running statistics of batch normalization. They are updated by `apply(..., train=True,
        mutable=["batch_stats"])`; a model without batch normalization has none.
      auxiliary: written, where mutable, by models with auxiliary heads: each leaf holds the logits of one head,
        float32[B, H, W, num_classes], for the loss in training.
      image_logits: written, where mutable, by models that also classify whole images: float32[B, image_classes].
    """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def mean(self) -> ChannelValues:
        """Mean that is subtracted from images with values 0..255: one number, or one per channel."""
        ...

    @property
    def std(self) -> ChannelValues:
        """Standard deviation that the result is divided by: one number, or one per channel."""
        ...

    def init(self, rngs: Any, x: jax.Array, *, train: bool) -> Any:
        """Returns freshly initialized variables, by collection.

        Args:
          rngs: a random key, or keys by name ("params", "dropout").
          x: images, float[B, H, W, C]; the parameters depend on C alone.
          train: False, unless variables that only training uses are wanted, too.
        """
        ...

    def apply(self, variables: Any, x: jax.Array, *, train: bool, mutable: Any = False, rngs: Any = None) -> Any:
        """Returns the logits; with `mutable`, also the updated variables of these collections.

        Args:
          variables: by collection, as `init` returns them.
          x: normalized images, float[B, H, W, C]; an `EncoderDecoder` also takes `EncodedImages`.
          train: normalize by the batch's own statistics and apply dropout.
          mutable: names of the collections to update, or False.
          rngs: random keys by name; "dropout" is needed for training a model with dropout.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ModelWrapper:
    """A model that behaves like another one, for subclasses that change how it is applied."""

    model: SegmentationModel

    @property
    def num_classes(self) -> int:
        """The number of classes of the wrapped model."""
        return self.model.num_classes

    @property
    def mean(self) -> ChannelValues:
        """The mean of the wrapped model."""
        return self.model.mean

    @property
    def std(self) -> ChannelValues:
        """The standard deviation of the wrapped model."""
        return self.model.std

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Returns freshly initialized variables of the wrapped model."""
        return self.model.init(*args, **kwargs)

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Applies the wrapped model."""
        return self.model.apply(variables, *args, **kwargs)
