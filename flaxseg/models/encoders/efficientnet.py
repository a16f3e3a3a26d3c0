"""EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946), and its Lite form for phones."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, Renames
from flaxseg.models.layers.conv import Conv, ConvNormAct, apply_block
from flaxseg.models.layers.normalization import Activation, identity

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel size, step, expansion and channels of each stage, before they are scaled."""

EARLY_STAGE = 4

LEVEL_ENDS = {1: 2, 2: 3, 4: 4, 6: 5}
"""The stage that ends with the feature at 1 / 2**level of the picture, for each level but the first."""

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of a network: what its place in the network makes of it."""

    number: int
    stage: int
    place: int
    """Which of the stage's blocks it is."""
    kernel_size: int
    step: int
    dilation: int
    padding: str | Pads
    expansion: int
    channels: int
    is_feature: bool
    """Whether what it gives is one of the encoder's features."""


class EfficientNet(nn.Module):
    """Features at 1, 1/2, ... of the picture; parameters: `block{i}/{expand,depthwise,squeeze,project}/...`."""

    width: float
    """What the channels are multiplied by."""
    scale: float
    """What the numbers of blocks are multiplied by."""
    image_size: int
    """Side of the pictures that the public weights are for: it decides on which side of a picture zeros are put."""
    early: bool = False
    """The feature at 1/16 is what the first block of its last stage gives, as segmentation_models_pytorch has it of B0;
    all that follows then counts as of 1/32."""
    lite: bool = False
    """ReLU6, no squeeze-and-excitation, and the ends of the network not scaled."""
    depth: int = 5
    output_stride: int = 32
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the features at 1/2, 1/4, ..."""
        of_blocks = [block.channels for block in self.blocks() if block.is_feature]
        return tuple(of_blocks if self.lite else [self._stem_channels, *of_blocks])

    @property
    def _stem_channels(self) -> int:
        return 32 if self.lite else _scaled(32, self.width)

    @property
    def torch_names(self) -> Renames:
        """The names of the packages efficientnet_pytorch and segmentation_models_pytorch, and of timm."""
        part = r"_blocks\.(\d+)\._"
        names: list[tuple[str, str | None]] = [
            (r"_?conv_stem", "stem/conv"),
            (r"_bn0|bn1", "stem/norm"),
            *((rf"{part}{name}_conv", rf"block\1/{name}/conv") for name in ("expand", "depthwise", "project")),
            *((rf"{part}bn{i}", rf"block\1/{name}/norm") for i, name in enumerate(("expand", "depthwise", "project"))),
            (rf"{part}se_(reduce|expand)", r"block\1/squeeze/\2"),
            # What follows the last feature, up to the classes.
            (r"_conv_head|_bn1|_fc|conv_head|bn2|classifier", None),
        ]
        # Files hold every block, also those past this encoder's depth.
        for block in self.clone(depth=5, parent=None).blocks():
            of_timm = ("dw", "pw") if block.expansion == 1 else ("pw", "dw", "pwl")
            ours = ("depthwise", "project") if block.expansion == 1 else ("expand", "depthwise", "project")
            there, here = rf"blocks\.{block.stage}\.{block.place}\.", f"block{block.number}"
            for i, (name, own) in enumerate(zip(of_timm, ours, strict=True), 1):
                names += [(f"{there}conv_{name}", f"{here}/{own}/conv"), (f"{there}bn{i}", f"{here}/{own}/norm")]
            names.append((rf"{there}se\.conv_(reduce|expand)", rf"{here}/squeeze/\1"))
        return names

    def blocks(self) -> Iterator[Block]:
        """Every block up to the last feature."""
        number, size, stride, dilation = 0, math.ceil(self.image_size / 2), 2, 1
        for stage, (count, kernel_size, step, expansion, channels) in enumerate(STAGES):
            if stage > max(stage for stage, level in LEVEL_ENDS.items() if level <= self.depth):
                return
            ends = self.lite and stage in (0, len(STAGES) - 1)
            repeats = count if ends else math.ceil(count * self.scale)
            last = 0 if self.early and stage == EARLY_STAGE else repeats - 1
            for place in range(repeats):
                step_here = step if place == 0 else 1
                before = dilation
                if step_here == 2 and 2 * stride > self.output_stride:
                    step_here, dilation = 1, 2 * dilation
                # timm's first block of a stage still has the dilation of the stage before.
                own = before if self.lite else dilation
                if self.early and stage == EARLY_STAGE and place:
                    own = 32 // self.output_stride
                pads = "SYMMETRIC" if own > 1 else _same_pads(size, kernel_size, step_here)
                yield Block(
                    number,
                    stage,
                    place,
                    kernel_size,
                    step_here,
                    own,
                    pads,
                    expansion,
                    _scaled(channels, self.width),
                    place == last and (stage in LEVEL_ENDS or (self.lite and stage == 0)),
                )
                number, size, stride = number + 1, math.ceil(size / step_here), stride * step_here

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """`depth + 1` features of a picture, from the picture itself down."""
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
            x = apply_block(module, x, train=train, remat=self.remat)
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
        options = (wide, block.kernel_size, block.step, block.dilation, wide)
        y = self.layer(*options, padding=block.padding, name="depthwise")(y, train=train)
        if self.squeeze:
            y = _SqueezeAndExcitation(max(1, x.shape[-1] // 4), y.dtype, name="squeeze")(y)
        y = self.layer(block.channels, 1, activation=identity, name="project")(y, train=train)
        # By its stride as it was before any dilation: a block that begins a smaller stage has no way around it.
        if block.place == 0 or x.shape[-1] != block.channels:
            return y
        return x + nn.Dropout(self.rate, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


class _SqueezeAndExcitation(nn.Module):
    """Channels weighted by what the whole picture holds (Hu et al. 2017, https://arxiv.org/abs/1709.01507)."""

    reduced: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.mean((1, 2), keepdims=True)
        y = nn.silu(Conv(self.reduced, 1, dtype=self.dtype, name="reduce")(y))
        return x * nn.sigmoid(Conv(x.shape[-1], 1, dtype=self.dtype, name="expand")(y))


def _scaled(channels: int, width: float) -> int:
    """A number of channels times `width`, as a multiple of 8 that is not less by more than a tenth."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def _same_pads(size: int, kernel_size: int, step: int) -> Pads:
    """TensorFlow's SAME padding of a picture with this side."""
    total = max((math.ceil(size / step) - 1) * step + kernel_size - size, 0)
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
        # timm pads by the picture at hand, whose sides are multiples of the stride, as 224 is.
        functools.partial(EfficientNet, width, scale, 224, lite=True),
        HubFile(f"timm/tf_efficientnet_lite{number}.in1k", "main"),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
    for number, (width, scale) in enumerate(((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8)))
}
"""Width, number of blocks, and the pictures' side, each with the revision of the public weights."""
