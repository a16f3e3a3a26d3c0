"""What every encoder is: a variant of a family with its public weights, and the way that names of torch map to ours."""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB pictures with values 0..255."""

Renames = Sequence[tuple[str, str | None]]
"""Pairs of a regular expression for the name of a torch module, without `.weight` and the like, and the path of the
same module here, with groups as `\\1`. None: what the encoder does not have, such as the classifier. The first that
matches the whole name counts."""


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file of the Hugging Face hub: its repository and revision, a commit, or a branch where no commit is known."""

    repository: str
    revision: str
    filename: str = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Encoder:
    """One encoder that a name stands for.

    Attributes:
      make: `make(depth=, output_stride=, remat=, dtype=)` returns the module. Called on pictures [B, H, W, C] whose
        sides are multiples of its stride, with `train=`, the module gives a list of `depth + 1` features, those of
        number i at 1 / 2**i of the sides (1 / output_stride at least), the first being the picture itself. It has
        the attributes `channels`, of each of these features but the first, `output_stride`, and `torch_names`.
      pretrained: the public weights that `pretrained="imagenet"` stands for; None: there are none.
      mean: of the pictures that these were trained on, 0..255, one a channel.
      std: what the difference is divided by.
      depths: the values that `depth` can have.
      output_strides: the values that `output_stride` can have.
    """

    make: Callable[..., nn.Module]
    pretrained: HubFile | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    depths: tuple[int, ...] = (3, 4, 5)
    output_strides: tuple[int, ...] = (8, 16, 32)


def stage_dilation(stride: int, output_stride: int) -> tuple[int, int]:
    """The step and the dilation of a stage at 1 / `stride` of the picture when nothing is smaller than `output_stride`.

    A stage that would halve the picture once more keeps its size, and its kernels reach as far as they would have
    (Chen et al. 2017, https://arxiv.org/abs/1706.05587).
    """
    return (2, 1) if stride <= output_stride else (1, stride // output_stride)
