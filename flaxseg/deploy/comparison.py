"""Compares an exported program with the network that it was made of."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from flaxseg.deploy.program import Program
from flaxseg.errors import ExportError


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far the outputs of an exported program are from those of the network.

    Attributes:
      images: the number of images.
      pixels: the number of pixels in them.
      differing_pixels: the number of pixels that get another class.
      largest_logit: the largest absolute value of the network's logits.
      largest_difference: the largest absolute difference: of logits or probabilities, or, for a program that returns
        classes, how much lower the network's logit of a class that was chosen is than its largest one.
    """

    images: int = 0
    pixels: int = 0
    differing_pixels: int = 0
    largest_logit: float = 0.0
    largest_difference: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the values by name, as JSON holds them."""
        return dataclasses.asdict(self)

    def check(self, name: str, *, tolerance: float) -> None:
        """Checks that the program computes what the network does.

        Args:
          name: what the program is called in the message.
          tolerance: the largest difference allowed, relative to the largest logit.

        Raises:
          ExportError: it does not.
        """
        limit = tolerance * max(self.largest_logit, 1.0)
        if not self.largest_difference <= limit:
            raise ExportError(
                f"{name}: its outputs differ from the network's by up to {self.largest_difference:.3g} on "
                f"{self.images} images, where {limit:.3g} is allowed (the largest logit is {self.largest_logit:.3g}, "
                f"and {self.differing_pixels:,} of {self.pixels:,} pixels get another class); it was not written. "
                "Use another --format, or --weights=float32"
            )


def compare(reference: Program, exported: Program, batches: Iterable[np.ndarray], *, output: str) -> Comparison:
    """Returns how far an exported program's outputs are from the network's.

    Args:
      reference: returns the network's logits, float32[B, H, W, K].
      exported: the exported program, which returns what `output` names.
      batches: images, float32[B, H, W, C], as both programs take them.
      output: "logits", "probabilities" or "classes".
    """
    total = Comparison()
    for batch in batches:
        logits, found = np.asarray(reference(batch)), np.asarray(exported(batch))
        total = _sum(total, _compare_batch(logits, found, output))
    return total


def _compare_batch(logits: np.ndarray, found: np.ndarray, output: str) -> Comparison:
    classes = logits.argmax(-1)
    if output == "classes":
        chosen = np.take_along_axis(logits, found[..., None].astype(np.int64), -1)[..., 0]
        difference, found_classes = logits.max(-1) - chosen, found
    else:
        difference = found - (_softmax(logits) if output == "probabilities" else logits)
        found_classes = found.argmax(-1)
    # NaN is kept by max().
    return Comparison(
        images=len(logits),
        pixels=classes.size,
        differing_pixels=int((classes != found_classes).sum()),
        largest_logit=float(np.abs(logits).max()),
        largest_difference=float(np.abs(difference).max()),
    )


def _sum(one: Comparison, other: Comparison) -> Comparison:
    return Comparison(
        one.images + other.images,
        one.pixels + other.pixels,
        one.differing_pixels + other.differing_pixels,
        float(np.maximum(one.largest_logit, other.largest_logit)),
        float(np.maximum(one.largest_difference, other.largest_difference)),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
