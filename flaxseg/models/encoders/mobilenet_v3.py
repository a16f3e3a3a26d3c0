"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244)."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.inverted_residual import InvertedResidual
from flaxseg.models.pretrained.torch_names import TorchNames

_STEM_WIDTH = 16
_LAST_WIDTH = 960

_STAGES = (
    (3, 1, 16, False, nn.relu, (1.0,)),
    (3, 2, 24, False, nn.relu, (4.0, 3.0)),
    (5, 2, 40, True, nn.relu, (3.0, 3.0, 3.0)),
    (3, 2, 80, False, nn.hard_swish, (6.0, 2.5, 2.3, 2.3)),
    (3, 1, 112, True, nn.hard_swish, (6.0, 6.0)),
    (5, 2, 160, True, nn.hard_swish, (6.0, 6.0, 6.0)),
)
"""Kernel size, stride of the first block, channels, squeeze-and-excitation, activation, and expansion of each block."""


def _torchvision_names() -> Iterator[tuple[str, str]]:
    """Yields the names of modules in torchvision, which numbers them in one sequence."""
    blocks = [(stage, number) for stage, row in enumerate(_STAGES) for number in range(len(row[-1]))]
    for index, (stage, number) in enumerate(blocks, 1):
        layers = (["expand"] if index > 1 else []) + ["depthwise"] + (["squeeze"] if _STAGES[stage][3] else [])
        for position, layer in enumerate((*layers, "project")):
            inner = (("fc1", "reduce"), ("fc2", "expand")) if layer == "squeeze" else (("0", "conv"), ("1", "norm"))
            for theirs, ours in inner:
                name = rf"(?:features\.)?{index}\.block\.{position}\.{theirs}"
                yield name, f"stage{stage}_block{number}/{layer}/{ours}"
    for index, name in ((0, "stem"), (len(blocks) + 1, "last")):
        yield rf"(?:features\.)?{index}\.0", f"{name}/conv"
        yield rf"(?:features\.)?{index}\.1", f"{name}/norm"


_TORCHVISION_NAMES = tuple(_torchvision_names())


class MobileNetV3(nn.Module):
    """MobileNetV3 large. Parameters are named `stem/...`, `stage{i}_block{j}/{expand,...}/...`, `last/...`.

    Attributes:
      dilates_late: where a stage is dilated instead of strided, its first block keeps the dilation of the previous
        stage, as in timm, unlike in torchvision.
      takes_first: features are taken after the first block of a stage, as in torchvision's segmentation networks, and
        not after its last.
      batch_epsilon: added to the variance of batch normalization.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    dilates_late: bool = True
    takes_first: bool = False
    batch_epsilon: float = 1e-5
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"conv_stem", "stem/conv"),
        (r"bn1", "stem/norm"),
        (r"blocks\.0\.0\.conv_dw", "stage0_block0/depthwise/conv"),
        (r"blocks\.0\.0\.bn1", "stage0_block0/depthwise/norm"),
        (r"blocks\.0\.0\.conv_pw", "stage0_block0/project/conv"),
        (r"blocks\.0\.0\.bn2", "stage0_block0/project/norm"),
        (r"blocks\.6\.0\.conv", "last/conv"),
        (r"blocks\.6\.0\.bn1", "last/norm"),
        *(
            (rf"blocks\.(\d)\.(\d+)\.{theirs}", rf"stage\1_block\2/{ours}")
            for theirs, ours in (
                (r"conv_pw", "expand/conv"),
                (r"bn1", "expand/norm"),
                (r"conv_dw", "depthwise/conv"),
                (r"bn2", "depthwise/norm"),
                (r"se\.conv_(reduce|expand)", r"squeeze/\3"),
                (r"conv_pwl", "project/conv"),
                (r"bn3", "project/norm"),
            )
        ),
        *_TORCHVISION_NAMES,
        (r"conv_head|classifier(?:\.\d)?", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (16, 24, 40, 80 if self.takes_first else 112, _LAST_WIDTH)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        layer = functools.partial(ConvNormAct, activation=nn.hard_swish, epsilon=self.batch_epsilon, dtype=self.dtype)
        features, reduction = [x], 2
        x = layer(_STEM_WIDTH, 3, 2, padding="SYMMETRIC", name="stem")(x, train=train)
        if self.takes_first:
            features.append(x)
        for stage, (kernel_size, stage_stride, width, squeeze, activation, expansions) in enumerate(_STAGES):
            reduction *= stage_stride
            if stage_stride == 2 and not self.takes_first:
                features.append(x)
            if reduction > 2**self.depth:
                return features
            stride, dilation = stage_dilation(reduction, self.output_stride)
            for number, expansion in enumerate(expansions):
                strides = stage_stride == 2 and number == 0
                wide = _multiple_of_8(expansion * x.shape[-1])
                block = InvertedResidual(
                    width,
                    wide,
                    kernel_size,
                    stride if strides else 1,
                    max(dilation // 2, 1) if strides and self.dilates_late else dilation,
                    _multiple_of_8(wide / 4) if squeeze else 0,
                    activation=activation,
                    squeeze_activation=nn.relu,
                    gate=nn.hard_sigmoid,
                    epsilon=self.batch_epsilon,
                    dtype=self.dtype,
                    name=f"stage{stage}_block{number}",
                )
                x = block(x, train=train)
                if strides and self.takes_first and reduction < 2**self.depth:
                    features.append(x)
        if self.depth == 5:
            x = layer(_LAST_WIDTH, 1, name="last")(x, train=train)
        return [*features, x]


def _multiple_of_8(channels: float) -> int:
    """Returns `channels`, rounded to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


ENCODERS: dict[str, Encoder] = {
    "mobilenetv3_large_100": Encoder(
        MobileNetV3, HubFile("timm/mobilenetv3_large_100.ra_in1k", "main", license="apache-2.0")
    ),
    "mobilenet_v3_large": Encoder(
        functools.partial(MobileNetV3, dilates_late=False, takes_first=True, batch_epsilon=1e-3), None, depths=(5,)
    ),
}
"""timm's variant, whose number is the width in percent, and torchvision's."""
