"""Compares an exported program with the network that it was made of."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxseg.deploy.program import Program
from flaxseg.errors import ExportError
from flaxseg.metrics import ConfusionMatrix


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
      confusion_before: the network's classes against the labels; None if the images have none.
      confusion_after: the program's classes against the labels; None if the images have none.
    """

    images: int = 0
    pixels: int = 0
    differing_pixels: int = 0
    largest_logit: float = 0.0
    largest_difference: float = 0.0
    confusion_before: ConfusionMatrix | None = None
    confusion_after: ConfusionMatrix | None = None

    @property
    def miou(self) -> tuple[float, float] | None:
        """The mIoU of the network, and that of the program, on the same images; None if these have no labels."""
        if self.confusion_before is None or self.confusion_after is None:
            return None
        return self.confusion_before.compute()["miou"], self.confusion_after.compute()["miou"]

    def to_json(self) -> dict[str, Any]:
        """Returns the values by name, as JSON holds them; the mIoU before and after only where it is known."""
        names = ("images", "pixels", "differing_pixels", "largest_logit", "largest_difference")
        scores = zip(("miou_before", "miou_after"), self.miou or (), strict=False)
        # The mIoU of images that have no valid pixel is NaN, which JSON lacks.
        known = {name: None if np.isnan(score) else score for name, score in scores}
        return {name: getattr(self, name) for name in names} | known

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


def compare(
    reference: Program,
    exported: Program,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    *,
    output: str,
    done: Callable[[int], Any] = lambda images: None,
) -> Comparison:
    """Returns how far an exported program's outputs are from the network's.

    Args:
      reference: returns the network's logits, float32[B, H, W, K].
      exported: the exported program, which returns what `output` names.
      batches: images, float32[B, H, W, C], as both programs take them, and their labels, uint8[B, H, W], or None.
      output: "logits", "probabilities" or "classes".
      done: called after each batch with its number of images.
    """
    total = Comparison()
    for images, label in batches:
        logits, found = np.asarray(reference(images)), np.asarray(exported(images))
        total = _sum(total, _compare_batch(logits, found, label, output))
        done(len(images))
    return total


def _compare_batch(logits: np.ndarray, found: np.ndarray, label: np.ndarray | None, output: str) -> Comparison:
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
        confusion_before=_confusion(classes, label, logits.shape[-1]),
        confusion_after=_confusion(found_classes, label, logits.shape[-1]),
    )


def _confusion(classes: np.ndarray, label: np.ndarray | None, num_classes: int) -> ConfusionMatrix | None:
    if label is None:
        return None
    found = ConfusionMatrix.from_model_output(
        prediction=jnp.asarray(classes), label=jnp.asarray(label), num_classes=num_classes
    )
    return found.to_host()


def _sum(one: Comparison, other: Comparison) -> Comparison:
    return Comparison(
        one.images + other.images,
        one.pixels + other.pixels,
        one.differing_pixels + other.differing_pixels,
        float(np.maximum(one.largest_logit, other.largest_logit)),
        float(np.maximum(one.largest_difference, other.largest_difference)),
        _merged(one.confusion_before, other.confusion_before),
        _merged(one.confusion_after, other.confusion_after),
    )


def _merged(one: ConfusionMatrix | None, other: ConfusionMatrix | None) -> ConfusionMatrix | None:
    return other if one is None else one if other is None else one.merge(other)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
