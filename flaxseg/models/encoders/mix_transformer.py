"""Mix Transformer, the encoder of SegFormer (Xie et al. 2021, https://arxiv.org/abs/2105.15203)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.conv import Conv
from flaxseg.models.layers.dense import Dense
from flaxseg.models.pretrained.torch_names import TorchNames

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""For each stage: attention heads, and the factor by which height and width of the keys are reduced."""

_dense_initializer = nn.initializers.normal(0.02)


class MixTransformer(nn.Module):
    """Mix Transformer. It has no feature at 1/2 of the image's size; that feature has no channels.

    Parameters are named `stage{i}_embed/...`, `stage{i}_block{j}/...`, `stage{i}_norm/...`, with i from 1.

    Attributes:
      widths: channels of each stage.
      blocks: number of blocks of each stage.
      drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first block.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
      epsilon: added to the variance in the layer normalizations of blocks and stages.
    """

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    drop_path_rate: float = 0.1
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    torch_names: ClassVar[TorchNames] = (
        (r"patch_embed(\d)\.proj", r"stage\1_embed/conv"),
        (r"patch_embed(\d)\.norm", r"stage\1_embed/norm"),
        (r"block(\d)\.(\d+)\.norm(\d)", r"stage\1_block\2/norm\3"),
        (r"block(\d)\.(\d+)\.attn\.sr", r"stage\1_block\2/attention/reduce"),
        (r"block(\d)\.(\d+)\.attn\.(\w+)", r"stage\1_block\2/attention/\3"),
        (r"block(\d)\.(\d+)\.mlp\.fc1", r"stage\1_block\2/mlp/expand"),
        (r"block(\d)\.(\d+)\.mlp\.fc2", r"stage\1_block\2/mlp/project"),
        (r"block(\d)\.(\d+)\.mlp\.dwconv\.dwconv", r"stage\1_block\2/mlp/depthwise"),
        (r"norm(\d)", r"stage\1_norm"),
        (r"head", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (0, *self.widths)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x, jnp.asarray(x[:, ::2, ::2, :0], self.dtype)]
        for stage in range(1, self.depth):
            width = self.widths[stage - 1]
            # Overlapping kernels, unlike patches, preserve local continuity.
            kernel_size, stride = (7, 4) if stage == 1 else (3, 2)
            x = _Embedding(width, kernel_size, stride, self.dtype, name=f"stage{stage}_embed")(x)
            for number in range(self.blocks[stage - 1]):
                position = sum(self.blocks[: stage - 1]) + number
                rate = self.drop_path_rate * position / (sum(self.blocks) - 1)
                options = HEADS[stage - 1], REDUCTIONS[stage - 1], rate, self.dtype, self.epsilon
                block = _Block(*options, name=f"stage{stage}_block{number}")
                x = block(x, train=train)
            x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name=f"stage{stage}_norm")(x)
            features.append(x)
        return features


class _Embedding(nn.Module):
    """Overlapping patch embedding: a strided convolution and layer normalization."""

    width: int
    kernel_size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H / stride, W / stride, width] of [B, H, W, C]."""
        conv = Conv(self.width, self.kernel_size, self.stride, padding="SYMMETRIC", dtype=self.dtype, name="conv")
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(conv(x))


class _Block(nn.Module):
    """Attention, then an MLP with a 3x3 depthwise convolution, both residual and with stochastic depth."""

    heads: int
    reduction: int
    drop_path_rate: float
    dtype: Any
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        drop_path = functools.partial(
            nn.Dropout, self.drop_path_rate, broadcast_dims=(1, 2, 3), deterministic=not train
        )
        y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm1")(x)
        x = x + drop_path()(_Attention(self.heads, self.reduction, self.dtype, name="attention")(y))
        y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm2")(x)
        return x + drop_path()(_Mlp(self.dtype, name="mlp")(y))


class _Attention(nn.Module):
    """Self-attention whose keys and values are reduced by a strided convolution."""

    heads: int
    reduction: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H, W, C] of [B, H, W, C]."""
        width = x.shape[-1]
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_dense_initializer)
        query = self._split(dense(width, name="q")(x))
        key, value = jnp.split(dense(2 * width, name="kv")(self._reduced(x)), 2, -1)
        # Scores and their softmax are computed in float32, regardless of `dtype`.
        attended = jax.nn.dot_product_attention(query, self._split(key), self._split(value))
        return dense(width, name="proj")(attended.reshape(x.shape))

    def _reduced(self, x: jax.Array) -> jax.Array:
        if self.reduction == 1:
            return x
        # Rows and columns that do not fill a kernel are dropped; padding keeps at least one of each.
        padding = [(0, max(0, self.reduction - length)) for length in x.shape[1:3]]
        options = {"stride": self.reduction, "padding": padding, "dtype": self.dtype}
        x = Conv(x.shape[-1], self.reduction, **options, name="reduce")(x)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)

    def _split(self, x: jax.Array) -> jax.Array:
        """Returns [B, H * W, heads, C / heads] of [B, H, W, C]."""
        batch, height, width, channels = x.shape
        return x.reshape(batch, height * width, self.heads, channels // self.heads)


class _Mlp(nn.Module):
    """A two-layer MLP within each pixel, with a 3x3 depthwise convolution in between that encodes positions."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H, W, C] of [B, H, W, C]."""
        width = x.shape[-1]
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_dense_initializer)
        x = dense(4 * width, name="expand")(x)
        x = Conv(4 * width, 3, groups=4 * width, dtype=self.dtype, name="depthwise")(x)
        return dense(width, name="project")(ops.gelu(x))


_LICENSE = "other (nvidia-source-code-license), https://github.com/NVlabs/SegFormer/blob/master/LICENSE"
"""The license of SegFormer and its weights, which allows research and evaluation only."""

ENCODERS: dict[str, Encoder] = {
    name: Encoder(
        functools.partial(MixTransformer, widths, blocks),
        HubFile(f"smp-hub/{name}.imagenet", revision, license=_LICENSE),
        output_strides=(32,),
    )
    for name, widths, blocks, revision in (
        ("mit_b0", (32, 64, 160, 256), (2, 2, 2, 2), "9ce53d104d92d75aabb00aae70677aaab67e7c84"),
        ("mit_b1", (64, 128, 320, 512), (2, 2, 2, 2), "a04bf4f13a549bce677cf79b04852e7510782817"),
        ("mit_b2", (64, 128, 320, 512), (3, 4, 6, 3), "868ab6f13871dcf8c3d9f90ee4519403475b65ef"),
        ("mit_b3", (64, 128, 320, 512), (3, 4, 18, 3), "32558d12a65f1daa0ebcf4f4053c4285e2c1cbda"),
        ("mit_b4", (64, 128, 320, 512), (3, 8, 27, 3), "3a3454e900a4b4f11dd60eeb59101a9a1a36b017"),
        ("mit_b5", (64, 128, 320, 512), (3, 6, 40, 3), "ced04d96c586b6297fd59a7a1e244fc78fdb6531"),
    )
}
"""Channels and blocks of each stage, and the revision of the public weights."""
