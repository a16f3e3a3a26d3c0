"""The plain U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), with or without gates on its skips."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from flaxseg import ops
from flaxseg.models.arguments import (
    ChannelValues,
    channel_values,
    check_choice,
    check_dtype,
    check_integer,
    check_number,
    check_rate,
)
from flaxseg.models.layers.attention import AttentionGate
from flaxseg.models.layers.conv import (
    ACTIVATIONS,
    UPSAMPLINGS,
    Conv,
    ConvNormAct,
    UpSample,
    activation_fn,
    crop,
    pad_to_stride,
)
from flaxseg.models.layers.normalization import NORMS


def plain_unet(
    *,
    num_classes: int,
    width: int,
    depth: int,
    max_width: int | None,
    gate_from: int | None = None,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    dtype: Any,
    **others: Any,
) -> "UNet":
    """The plain U-Net, once its arguments were checked; `unet` and `attention_unet` document them.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    for name, value, low in (
        ("num_classes", num_classes, 1),
        ("width", width, 1),
        ("depth", depth, 1),
        ("max_width", width if max_width is None else max_width, 1),
        ("kernel_size", others["kernel_size"], 1),
        ("decoder_dropout_from", others["decoder_dropout_from"], 0),
        ("head_convs", others["head_convs"], 0),
    ):
        check_integer(name, value, low)
    if gate_from is not None:
        check_integer("gate_from", gate_from, 0, depth - 1)
    for name, allowed in (("norm", NORMS), ("activation", tuple(ACTIVATIONS)), ("upsampling", UPSAMPLINGS)):
        check_choice(name, others[name], allowed)
    check_number("negative_slope", others["negative_slope"])
    check_rate("decoder_dropout", others["decoder_dropout"])
    check_rate("head_dropout", others["head_dropout"])
    check_dtype("dtype", dtype)
    return UNet(
        num_classes=num_classes,
        widths=tuple(min(width * 2**level, max_width or width * 2**level) for level in range(depth + 1)),
        gate_from=gate_from,
        mean=channel_values("mean", mean),
        std=channel_values("std", std, positive=True),
        dtype=dtype,
        **others,
    )


class UNet(nn.Module):
    """U-Net of `len(widths)` levels; made by `unet` or `attention_unet`, which document the attributes.

    Parameters are named `encoder/level{i}/block{j}/...`, `decoder/level{i}/{gate,up,block{j}}/...`, `head/...`, with
    level 0 at full resolution.
    """

    num_classes: int
    widths: tuple[int, ...]
    kernel_size: int
    norm: str
    activation: str
    negative_slope: float
    upsampling: str
    decoder_dropout: float
    decoder_dropout_from: int
    head_convs: int
    head_dropout: float
    gate_from: int | None
    """The finest level whose skip has a gate; None: there are none."""
    mean: ChannelValues
    std: ChannelValues
    dtype: Any

    @property
    def stride(self) -> int:
        """What the height and width are padded to a multiple of."""
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits, float32[B, H, W, num_classes], of normalized pictures, float[B, H, W, C], of any size.

        With `train`, batch statistics are those of the batch (and `batch_stats` is to be mutable), and dropout
        takes its randomness from the collection "dropout".
        """
        size = x.shape[1], x.shape[2]
        block = {"kernel_size": self.kernel_size, "norm": self.norm, "dtype": self.dtype}
        block["activation"] = activation_fn(self.activation, negative_slope=self.negative_slope)
        features = _Encoder(self.widths, block, name="encoder")(pad_to_stride(x, self.stride), train=train)
        levels = range(len(features) - 1)
        dropout = tuple(self.decoder_dropout * (level >= self.decoder_dropout_from) for level in levels)
        gated = tuple(self.gate_from is not None and level >= self.gate_from for level in levels)
        x = _Decoder(self.upsampling, dropout, gated, block, name="decoder")(features, train=train)
        for i in range(self.head_convs):
            x = ConvNormAct(self.widths[0], **block, name=f"head_block{i}")(x, train=train)
            x = nn.Dropout(self.head_dropout, deterministic=not train)(x)
        # In float32 whatever the rest is computed in: rounded logits would show in the loss.
        return crop(Conv(self.num_classes, 1, name="head")(x), size)


class _Encoder(nn.Module):
    """Features of each level, from full resolution down."""

    widths: tuple[int, ...]
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        features = []
        for level, width in enumerate(self.widths):
            if level:
                x = ops.max_pool(x)
            x = _DoubleConv(width, self.block, name=f"level{level}")(x, train=train)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """From the encoder's features back up to full resolution."""

    upsampling: str
    dropout: tuple[float, ...]
    """The rate after each level, from level 0 on."""
    gated: tuple[bool, ...]
    """Whether the skip of each level has a gate, likewise."""
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            options = self.dropout[level], self.gated[level], self.block
            x = _DecoderLevel(self.upsampling, *options, name=f"level{level}")(x, features[level], train=train)
        return x


class _DecoderLevel(nn.Module):
    """Up-sampling by 2, merged with the encoder's features of the same size."""

    upsampling: str
    dropout: float
    gated: bool
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, *, train: bool) -> jax.Array:
        width = skip.shape[-1]
        if self.gated:
            skip = AttentionGate(dtype=self.block["dtype"], name="gate")(skip, x)
        x = UpSample(width, self.upsampling, dtype=self.block["dtype"], name="up")(x)
        x = ConvNormAct(width, **self.block, name="block0")(x, skip, train=train)
        x = ConvNormAct(width, **self.block, name="block1")(x, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class _DoubleConv(nn.Module):
    """Two convolution blocks of one width."""

    width: int
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i in range(2):
            x = ConvNormAct(self.width, **self.block, name=f"block{i}")(x, train=train)
        return x
