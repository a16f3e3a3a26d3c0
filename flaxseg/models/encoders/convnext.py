"""ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.conv import Conv
from flaxseg.models.layers.dense import Dense
from flaxseg.models.pretrained.torch_names import TorchNames

_initializer = nn.initializers.normal(0.02)


class ConvNeXt(nn.Module):
    """ConvNeXt. It has no feature at 1/2 of the image's size; that feature has no channels.

    Parameters are named `stem/...`, `stage{i}_downsample/...`, `stage{i}_block{j}/...`.

    Attributes:
      blocks: number of blocks of each stage.
      width: channels of the first stage; they double with each stage.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: tuple[int, int, int, int]
    width: int
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    # Published files have a dot in names where timm's feature extractors have an underscore.
    torch_names: ClassVar[TorchNames] = (
        (r"stem[._]0", r"stem/conv"),
        (r"stem[._]1", r"stem/norm"),
        (r"stages[._](\d)\.downsample\.0", r"stage\1_downsample/norm"),
        (r"stages[._](\d)\.downsample\.1", r"stage\1_downsample/conv"),
        (r"stages[._](\d)\.blocks\.(\d+)\.conv_dw", r"stage\1_block\2/depthwise"),
        (r"stages[._](\d)\.blocks\.(\d+)\.norm", r"stage\1_block\2/norm"),
        (r"stages[._](\d)\.blocks\.(\d+)\.mlp\.fc1", r"stage\1_block\2/expand"),
        (r"stages[._](\d)\.blocks\.(\d+)\.mlp\.fc2", r"stage\1_block\2/project"),
        (r"stages[._](\d)\.blocks\.(\d+)\.gamma", r"stage\1_block\2/gamma"),
        (r"head\.(norm|fc)", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (0, *self.widths)[: self.depth]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(4))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x, jnp.asarray(x[:, ::2, ::2, :0], self.dtype)]
        x = _Downsample(self.width, 4, 4, norm_first=False, dtype=self.dtype, name="stem")(x)
        for stage in range(self.depth - 1):
            width = self.widths[stage]
            stride, dilation = stage_dilation(2 ** (stage + 2), self.output_stride)
            if stage > 0:
                # The strided convolution has the dilation of the previous stage.
                options = {"stride": stride, "dilation": max(dilation // 2, 1), "dtype": self.dtype}
                x = _Downsample(width, 2, **options, name=f"stage{stage}_downsample")(x)
            for number in range(self.blocks[stage]):
                block = _Block(dilation, self.dtype, name=f"stage{stage}_block{number}")
                x = block(x, train=train)
            features.append(x)
        return features


class _Downsample(nn.Module):
    """A convolution whose kernel is as large as its stride, after or before layer normalization."""

    width: int
    kernel_size: int
    stride: int
    dilation: int = 1
    norm_first: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H / stride, W / stride, width] of [B, H, W, C]."""
        norm = nn.LayerNorm(dtype=self.dtype, name="norm")
        options = {"stride": self.stride, "dilation": self.dilation, "dtype": self.dtype, "kernel_init": _initializer}
        conv = Conv(self.width, self.kernel_size, **options, name="conv")
        return conv(norm(x)) if self.norm_first else norm(conv(x))


class _Block(nn.Module):
    """A residual block: a 7x7 depthwise convolution, then a two-layer MLP within each pixel, scaled by `gamma`."""

    dilation: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        width = x.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": _initializer}
        y = Conv(width, 7, dilation=self.dilation, groups=width, **options, name="depthwise")(x)
        y = nn.LayerNorm(dtype=self.dtype, name="norm")(y)
        y = Dense(4 * width, **options, name="expand")(y)
        y = Dense(width, **options, name="project")(ops.gelu(y))
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (width,), jnp.float32)
        return x + y * gamma.astype(self.dtype)


ENCODERS: dict[str, Encoder] = {
    name: Encoder(
        functools.partial(ConvNeXt, blocks, width), HubFile(f"timm/{name}.{weights}", "main", license="apache-2.0")
    )
    for name, blocks, width, weights in (
        ("convnext_tiny", (3, 3, 9, 3), 96, "in12k_ft_in1k"),
        ("convnext_small", (3, 3, 27, 3), 96, "in12k_ft_in1k"),
        ("convnext_base", (3, 3, 27, 3), 128, "fb_in22k_ft_in1k"),
        ("convnext_large", (3, 3, 27, 3), 192, "fb_in22k_ft_in1k"),
    )
}
"""Blocks of each stage, channels of the first stage, and the tag of timm's default weights."""
