"""The function that is exported: images in, logits, probabilities or classes out, with the weights inside."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flaxseg.deploy.weights import full_precision
from flaxseg.errors import ArgumentError, check_choice
from flaxseg.inference.forward import normalize
from flaxseg.models.protocol import SegmentationModel, Variables

OUTPUTS = ("logits", "probabilities", "classes")
"""What a program returns: logits or probabilities, float32[B, H, W, num_classes], or class indices, uint8[B, H, W]."""

Program = Callable[[Any], jax.Array]
"""A function of images, float32[B, H, W, C]."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The image sizes that an exported program accepts.

    Attributes:
      multiple: heights and widths have to be multiples of this number, the network's stride.
      smallest: the smallest height and width.
      fixed: the one height and width, where the format or the network allows no other; None: any that fits.
    """

    multiple: int
    smallest: int
    fixed: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.fixed:
            return f"{self.fixed[0]} x {self.fixed[1]} pixels"
        least = f", at least {self.smallest}" if self.smallest > self.multiple else ""
        return f"multiples of {self.multiple} pixels{least}"


def make_program(
    model: SegmentationModel, variables: Variables, *, normalized: bool, output: str, temperature: float = 1.0
) -> Program:
    """Returns the function that is exported.

    Args:
      model: the network.
      variables: its weights, which become constants of the program, in the types that `stored_weights` gave them. They
        are converted to float32 when the program runs.
      normalized: images are given with values 0..255 and normalized in the program; False: they are given as
        `(image - mean) / std`.
      output: "logits", "probabilities" or "classes".
      temperature: what logits are divided by for probabilities.

    Raises:
      ArgumentError: the output is unknown.
    """
    check_choice("output", output, OUTPUTS)

    def program(image: jax.Array) -> jax.Array:
        wide = full_precision(variables)
        image = normalize(image, model) if normalized else image
        logits = jnp.asarray(model.apply(wide, image, train=False))
        if output == "probabilities":
            return jax.nn.softmax(logits / temperature)
        return logits.argmax(-1).astype(jnp.uint8) if output == "classes" else logits

    return program


def stride_of(model: SegmentationModel) -> int:
    """Returns the stride to whose multiples a network pads its images; 32 where a network does not say."""
    return int(getattr(model, "stride", 32))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Returns the height and width in `HEIGHT,WIDTH`; None for None.

    Raises:
      ArgumentError: they are not two integers.
    """
    if text is None:
        return None
    height, _, width = text.replace("x", ",").partition(",")
    if not (height.strip().isdecimal() and width.strip().isdecimal()):
        raise ArgumentError("image_size", text, "must be HEIGHT,WIDTH, such as 512,768")
    return int(height), int(width)
