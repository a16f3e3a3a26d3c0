"""The views of the training examples whose features are cached."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from flaxseg.augment import AugmentFn
from flaxseg.data.batching import stack_examples
from flaxseg.data.threads import read_ahead
from flaxseg.data.types import Batch, Example


@dataclasses.dataclass(frozen=True)
class Views:
    """The training examples, each in a fixed number of views, in batches that do not depend on the devices.

    Attributes:
      count: number of examples.
      read: returns the example of an index; all have the same shape.
      number: number of augmented views of each example; 0: the example itself is the only view.
      augment_fn: the augmentation of the views; None: they are not augmented.
      seed: seed of the augmentation.
      batch_size: number of examples that are augmented and encoded together.
      num_threads: number of threads that read; 0: the calling thread, -1: one per core.
    """

    count: int
    read: Callable[[int], Example]
    number: int
    augment_fn: AugmentFn | None
    seed: int
    batch_size: int
    num_threads: int

    def __len__(self) -> int:
        """Returns the number of views of all examples together."""
        return self.count * max(self.number, 1)

    def batches(self) -> Iterator[tuple[int, int, Batch]]:
        """Yields (view, first index, batch before augmentation); the last batch repeats the last example."""
        starts = range(0, self.count, self.batch_size)
        places = [(view, start) for view in range(max(self.number, 1)) for start in starts]
        batches = read_ahead(places, lambda place: self._read(place[1]), num_threads=self.num_threads)
        for (view, start), batch in zip(places, batches, strict=True):
            yield view, start, batch

    def augment(self, batch: Batch, view: int | jax.Array, start: int | jax.Array) -> Batch:
        """Returns a batch as it is encoded, given its view and first index, which may be traced."""
        if self.augment_fn is None:
            return batch
        key = jax.random.fold_in(jax.random.key(self.seed), 2)
        return self.augment_fn(jax.random.fold_in(jax.random.fold_in(key, view), start), batch)

    def example(self, index: int, view: int) -> Mapping[str, np.ndarray]:
        """Returns `image` and `label` of one view, as they are encoded."""
        if self.augment_fn is None:
            example = self.read(index)
            return {"image": example["image"], "label": example["label"]}
        start = index // self.batch_size * self.batch_size
        batch = self._jitted_augment(self._read(start), view, start)
        return {name: np.asarray(batch[name][index - start]) for name in ("image", "label")}

    @functools.cached_property
    def _jitted_augment(self) -> Callable[..., Batch]:
        return jax.jit(self.augment)

    def _read(self, start: int) -> Batch:
        examples = [self.read(index) for index in range(start, min(start + self.batch_size, self.count))]
        return stack_examples(examples + examples[-1:] * (self.batch_size - len(examples)))
