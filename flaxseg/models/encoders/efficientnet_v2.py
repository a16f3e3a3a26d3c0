"""EfficientNetV2 (Tan & Le 2021, https://arxiv.org/abs/2104.00298)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.inverted_residual import InvertedResidual
from flaxseg.models.pretrained.torch_names import TorchNames

_STEM_WIDTH = 24
_EPSILON = 1e-3
_SAME_PADS = ((0, 1), (0, 1))
"""TensorFlow's padding of strided 3x3 convolutions; heights and widths are even."""

Stage = tuple[str, int, int, int, int]
"""Kind of the blocks ("conv", "fused" or "inverted"), their number, the first one's stride, expansion and channels."""

_NAMES = {
    "conv": ((r"conv", "conv/conv"), (r"bn1", "conv/norm")),
    "fused": (
        (r"conv_exp", "expand/conv"),
        (r"bn1", "expand/norm"),
        (r"conv_pwl", "project/conv"),
        (r"bn2", "project/norm"),
    ),
    "inverted": (
        (r"conv_pw", "expand/conv"),
        (r"bn1", "expand/norm"),
        (r"conv_dw", "depthwise/conv"),
        (r"bn2", "depthwise/norm"),
        (r"se\.conv_(reduce|expand)", r"squeeze/\2"),
        (r"conv_pwl", "project/conv"),
        (r"bn3", "project/norm"),
    ),
}
"""timm's names of the modules of a block of each kind."""


class EfficientNetV2(nn.Module):
    """EfficientNetV2. Parameters are named `stem/...`, `stage{i}_block{j}/...`.

    Attributes:
      stages: the stages; the first has stride 1.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    stages: tuple[Stage, ...]
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    @property
    def torch_names(self) -> TorchNames:
        """The names in timm."""
        names: list[tuple[str, str | None]] = [
            (r"conv_stem", "stem/conv"),
            (r"bn1", "stem/norm"),
            (r"conv_head|bn2|classifier", None),
        ]
        for number, (kind, *_) in enumerate(self.stages):
            before, path = rf"blocks\.{number}\.(\d+)\.", rf"stage{number}_block\1/"
            names += [(before + theirs, path + ours) for theirs, ours in _NAMES[kind]]
        return names

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        following = [*(stage[2] for stage in self.stages[1:]), 2]
        widths = [stage[4] for stage, stride in zip(self.stages, following, strict=True) if stride == 2]
        return tuple(widths[: self.depth])

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features, reduction = [x], 2
        options = {"activation": nn.silu, "epsilon": _EPSILON, "dtype": self.dtype}
        x = ConvNormAct(_STEM_WIDTH, 3, 2, padding=_SAME_PADS, **options, name="stem")(x, train=train)
        for number, (kind, count, stage_stride, expansion, width) in enumerate(self.stages):
            reduction *= stage_stride
            if stage_stride == 2:
                features.append(x)
            if reduction > 2**self.depth:
                return features
            stride, dilation = stage_dilation(reduction, self.output_stride)
            for index in range(count):
                strides = stage_stride == 2 and index == 0
                block = self._block(
                    kind,
                    (x.shape[-1], expansion, width),
                    stride if strides else 1,
                    # As in timm, a block that is dilated instead of strided keeps the dilation of the previous stage.
                    max(dilation // 2, 1) if strides else dilation,
                    f"stage{number}_block{index}",
                )
                x = block(x, train=train)
        return [*features, x]

    def _block(self, kind: str, widths: tuple[int, int, int], stride: int, dilation: int, name: str) -> nn.Module:
        """Returns a block, given its input channels, expansion and output channels."""
        channels, expansion, width = widths
        if kind == "conv":
            return _ConvBlock(self.dtype, name=name)
        return InvertedResidual(
            width,
            channels * expansion,
            stride=stride,
            dilation=dilation,
            squeezed=channels // 4 if kind == "inverted" else 0,
            is_fused=kind == "fused",
            padding=_SAME_PADS if stride == 2 else "SYMMETRIC",
            epsilon=_EPSILON,
            dtype=self.dtype,
            name=name,
        )


class _ConvBlock(nn.Module):
    """A residual block of a single convolution that keeps the channels."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv = ConvNormAct(x.shape[-1], 3, activation=nn.silu, epsilon=_EPSILON, dtype=self.dtype, name="conv")
        return x + conv(x, train=train)


_SMALL = (
    ("conv", 2, 1, 1, 24),
    ("fused", 4, 2, 4, 48),
    ("fused", 4, 2, 4, 64),
    ("inverted", 6, 2, 4, 128),
    ("inverted", 9, 1, 6, 160),
    ("inverted", 15, 2, 6, 256),
)

_MEDIUM = (
    ("conv", 3, 1, 1, 24),
    ("fused", 5, 2, 4, 48),
    ("fused", 5, 2, 4, 80),
    ("inverted", 7, 2, 4, 160),
    ("inverted", 14, 1, 6, 176),
    ("inverted", 18, 2, 6, 304),
    ("inverted", 5, 1, 6, 512),
)

ENCODERS: dict[str, Encoder] = {
    name: Encoder(
        functools.partial(EfficientNetV2, stages),
        HubFile(f"timm/{name}.in21k_ft_in1k", "main", license="apache-2.0"),
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
    )
    for name, stages in (("tf_efficientnetv2_s", _SMALL), ("tf_efficientnetv2_m", _MEDIUM))
}
"""The variants whose public weights come from TensorFlow, as their padding does."""
