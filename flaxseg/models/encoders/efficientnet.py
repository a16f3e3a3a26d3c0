"""EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946), and EfficientNet-Lite."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.attention import SqueezeExcitation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import Activation, identity
from flaxseg.models.pretrained.torch_names import TorchNames

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel size, stride, expansion and channels of each stage, before scaling."""

EARLY_STAGE = 4
"""The stage whose first block gives the feature at 1/16 in B0; see `EfficientNet.early`."""

LEVEL_ENDS = {1: 2, 2: 3, 4: 4, 6: 5}
"""The level of the feature that each of these stages ends with, at 1 / 2**level of the image's size."""

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Block:
    """The options of one block.

    Attributes:
      number: the block's index in the network.
      stage: the index of its stage.
      position: its index in the stage.
      kernel_size: kernel size of the depthwise convolution.
      stride: stride of the depthwise convolution.
      dilation: dilation of the depthwise convolution.
      padding: padding of the depthwise convolution.
      expansion: factor by which the channels are expanded.
      channels: number of output channels.
      is_feature: the block's output is one of the encoder's features.
    """

    number: int
    stage: int
    position: int
    kernel_size: int
    stride: int
    dilation: int
    padding: str | Pads
    expansion: int
    channels: int
    is_feature: bool


class EfficientNet(nn.Module):
    """EfficientNet. Parameters are named `stem/...`, `block{i}/{expand,depthwise,squeeze,project}/...`.

    Attributes:
      width: factor for the channels.
      scale: factor for the numbers of blocks.
      image_size: size of the images that the public weights were trained on, which determines on which sides strided
        convolutions are padded.
      early: take the feature at 1/16 after the first block of its last stage, as segmentation_models_pytorch does for
        B0; all later blocks then belong to 1/32.
      lite: EfficientNet-Lite: ReLU6, no squeeze-and-excitation, and no scaling of the first and last stage.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    width: float
    scale: float
    image_size: int
    early: bool = False
    lite: bool = False
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        channels = [block.channels for block in self.blocks() if block.is_feature]
        return tuple(channels if self.lite else [self._stem_channels, *channels])

    @property
    def _stem_channels(self) -> int:
        return 32 if self.lite else _scaled(32, self.width)

    @property
    def torch_names(self) -> TorchNames:
        """The names in efficientnet_pytorch and segmentation_models_pytorch, and in timm."""
        part = r"_blocks\.(\d+)\._"
        names: list[tuple[str, str | None]] = [
            (r"_?conv_stem", "stem/conv"),
            (r"_bn0|bn1", "stem/norm"),
            *((rf"{part}{name}_conv", rf"block\1/{name}/conv") for name in ("expand", "depthwise", "project")),
            *((rf"{part}bn{i}", rf"block\1/{name}/norm") for i, name in enumerate(("expand", "depthwise", "project"))),
            (rf"{part}se_(reduce|expand)", r"block\1/squeeze/\2"),
            # The layers after the last feature.
            (r"_conv_head|_bn1|_fc|conv_head|bn2|classifier", None),
        ]
        # Files hold all blocks, including those beyond this encoder's depth.
        for block in self.clone(depth=5, parent=None).blocks():
            timm_names = ("dw", "pw") if block.expansion == 1 else ("pw", "dw", "pwl")
            names_here = ("depthwise", "project") if block.expansion == 1 else ("expand", "depthwise", "project")
            prefix, path = rf"blocks\.{block.stage}\.{block.position}\.", f"block{block.number}"
            for i, (theirs, ours) in enumerate(zip(timm_names, names_here, strict=True), 1):
                names += [(f"{prefix}conv_{theirs}", f"{path}/{ours}/conv"), (f"{prefix}bn{i}", f"{path}/{ours}/norm")]
            names.append((rf"{prefix}se\.conv_(reduce|expand)", rf"{path}/squeeze/\1"))
        return names

    def blocks(self) -> Iterator[Block]:
        """Yields the blocks up to the last feature."""
        number, size, reduction, dilation = 0, math.ceil(self.image_size / 2), 2, 1
        for stage, (count, kernel_size, stage_stride, expansion, channels) in enumerate(STAGES):
            if stage > max(stage for stage, level in LEVEL_ENDS.items() if level <= self.depth):
                return
            is_unscaled = self.lite and stage in (0, len(STAGES) - 1)
            repeats = count if is_unscaled else math.ceil(count * self.scale)
            last = 0 if self.early and stage == EARLY_STAGE else repeats - 1
            for position in range(repeats):
                stride = stage_stride if position == 0 else 1
                previous_dilation = dilation
                if stride == 2 and 2 * reduction > self.output_stride:
                    stride, dilation = 1, 2 * dilation
                # In timm the first block of a stage still has the dilation of the previous stage.
                block_dilation = previous_dilation if self.lite else dilation
                if self.early and stage == EARLY_STAGE and position:
                    block_dilation = 32 // self.output_stride
                pads = "SYMMETRIC" if block_dilation > 1 else _same_pads(size, kernel_size, stride)
                yield Block(
                    number,
                    stage,
                    position,
                    kernel_size,
                    stride,
                    block_dilation,
                    pads,
                    expansion,
                    _scaled(channels, self.width),
                    position == last and (stage in LEVEL_ENDS or (self.lite and stage == 0)),
                )
                number, size, reduction = number + 1, math.ceil(size / stride), reduction * stride

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x]
        activation: Activation = nn.relu6 if self.lite else nn.silu
        momentum = 0.9 if self.lite else 0.99
        layer = functools.partial(ConvNormAct, activation=activation, momentum=momentum, epsilon=1e-3, dtype=self.dtype)
        pads = _same_pads(self.image_size, 3, 2)
        x = layer(self._stem_channels, 3, 2, padding=pads, name="stem")(x, train=train)
        blocks = list(self.blocks())
        if not self.lite:
            features.append(x)
        for block in blocks:
            rate = 0.0 if self.lite else 0.2 * block.number / sum(math.ceil(s[0] * self.scale) for s in STAGES)
            module = _Block(block, layer, squeeze=not self.lite, rate=rate, name=f"block{block.number}")
            x = module(x, train=train)
            if block.is_feature:
                features.append(x)
        return features


class _Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018, https://arxiv.org/abs/1801.04381), with squeeze-and-excitation."""

    block: Block
    layer: Any
    squeeze: bool
    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        block, y = self.block, x
        if block.expansion > 1:
            y = self.layer(x.shape[-1] * block.expansion, 1, name="expand")(y, train=train)
        wide = y.shape[-1]
        options = (wide, block.kernel_size, block.stride, block.dilation, wide)
        y = self.layer(*options, padding=block.padding, name="depthwise")(y, train=train)
        if self.squeeze:
            y = SqueezeExcitation(max(1, x.shape[-1] // 4), nn.silu, dtype=y.dtype, name="squeeze")(y)
        y = self.layer(block.channels, 1, activation=identity, name="project")(y, train=train)
        # The first block of a stage has no residual connection, whether it is strided or dilated instead.
        if block.position == 0 or x.shape[-1] != block.channels:
            return y
        return x + nn.Dropout(self.rate, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


def _scaled(channels: int, width: float) -> int:
    """Returns `channels * width`, rounded to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def _same_pads(size: int, kernel_size: int, stride: int) -> Pads:
    """Returns TensorFlow's SAME padding of images of this height and width."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel_size - size, 0)
    return ((total // 2, total - total // 2),) * 2


ENCODERS: dict[str, Encoder] = {
    f"efficientnet_b{number}": Encoder(
        functools.partial(EfficientNet, width, scale, image_size, early=number == 0),
        HubFile(f"smp-hub/efficientnet-b{number}.imagenet", revision),
    )
    for number, (width, scale, image_size, revision) in enumerate(
        (
            (1.0, 1.0, 224, "1bbe7ecc1d5ea1d2058de1a2db063b8701aff314"),
            (1.0, 1.1, 240, "5d637466a5215de300a8ccb13a39357df2df2bf4"),
            (1.1, 1.2, 260, "a96d4f0295ffbae18ebba173bf7f3c0c8f21990e"),
            (1.2, 1.4, 300, "074c54a6c473e0d294690d49cedb6cf463e7127d"),
            (1.4, 1.8, 380, "05cd5dde5dab658f00c463f9b9aa0ced76784f40"),
            (1.6, 2.2, 456, "69f4d28460a4e421b7860bc26ee7d832e03e01ca"),
            (1.8, 2.6, 528, "8570752016f7c62ae149cffa058550fe44e21c8b"),
            (2.0, 3.1, 600, "5a5dbe687d612ebc3dca248274fd1191111deda6"),
        )
    )
} | {
    f"efficientnet_lite{number}": Encoder(
        # timm pads by the size of the image at hand, which is a multiple of the stride, as 224 is.
        functools.partial(EfficientNet, width, scale, 224, lite=True),
        HubFile(f"timm/tf_efficientnet_lite{number}.in1k", "main", license="apache-2.0"),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
    for number, (width, scale) in enumerate(((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8)))
}
"""Factors for width and number of blocks, image size, and revision of the public weights."""
