"""HRNet (Wang et al. 2019, https://arxiv.org/abs/1908.07919)."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.encoders.resnet import ResidualBlock
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import identity
from flaxseg.models.pretrained.torch_names import TorchNames

_STEM_WIDTH = 64
_FEATURE_WIDTHS = (128, 256, 512, 1024)
_BLOCKS = 4
"""Number of blocks of the first stage, and of each branch of a module."""

_MODULES = {2: 1, 3: 4, 4: 3}
"""Number of modules of each stage; stage i has i branches, at 1/4, 1/8, ... of the image's size."""


class HRNet(nn.Module):
    """HRNet, whose branches at all resolutions exchange their features repeatedly.

    The features are those of the last stage's branches after the widening blocks of the classifier, and that at 1/2 is
    the first convolution's. Parameters are named `stem{k}/...`, `layer1_block{j}/...`, `transition{i}_{branch}/...`,
    `stage{i}_module{j}/{branch{k}_block{l},fuse{to}_{from}}/...`, `widen{branch}/...`.

    Attributes:
      widths: channels of the branches.
      depth: number of features apart from the image; with any depth, all branches are computed.
      output_stride: 32.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    widths: tuple[int, int, int, int]
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"conv([12])", r"stem\1/conv"),
        (r"bn([12])", r"stem\1/norm"),
        *(
            (f"{theirs}{part}", f"{ours}{path}")
            for theirs, ours in (
                (r"(layer1)\.(\d)\.", r"\1_block\2/"),
                (r"stage(\d)\.(\d)\.branches\.(\d)\.(\d)\.", r"stage\1_module\2/branch\3_block\4/"),
                (r"incre_modules\.(\d)\.0\.", r"widen\1/"),
            )
            for part, path in (
                (r"conv(?P<place>\d)", r"conv\g<place>/conv"),
                (r"bn(?P<place>\d)", r"conv\g<place>/norm"),
                (r"downsample\.0", r"downsample/conv"),
                (r"downsample\.1", r"downsample/norm"),
            )
        ),
        *(
            (f"{theirs}{index}", f"{ours}/{part}")
            for theirs, ours in (
                # The branches that a transition adds are one level deeper than those that it changes.
                (r"transition(\d)\.(\d)\.(?:0\.)?", r"transition\1_\2"),
                (r"stage(\d)\.(\d)\.fuse_layers\.(\d)\.(\d)\.", r"stage\1_module\2/fuse\3_\4"),
                (r"stage(\d)\.(\d)\.fuse_layers\.(\d)\.(\d)\.(\d)\.", r"stage\1_module\2/fuse\3_\4_\5"),
            )
            for index, part in enumerate(("conv", "norm"))
        ),
        (r"(downsamp_modules|final_layer|classifier)\b.*", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (_STEM_WIDTH, *_FEATURE_WIDTHS)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        layer = functools.partial(ConvNormAct, padding="SYMMETRIC", dtype=self.dtype)
        features = [x]
        x = layer(_STEM_WIDTH, 3, 2, name="stem1")(x, train=train)
        features.append(x)
        x = layer(_STEM_WIDTH, 3, 2, name="stem2")(x, train=train)
        for number in range(_BLOCKS):
            block = _bottleneck(64, self.dtype, f"layer1_block{number}")
            x = block(x, train=train)
        branches: Sequence[jax.Array] = (x,)
        for stage, modules in _MODULES.items():
            added = layer(self.widths[stage - 1], 3, 2, name=f"transition{stage - 1}_{stage - 1}")
            new = added(branches[-1], train=train)
            if stage == 2:
                branches = (layer(self.widths[0], 3, name="transition1_0")(x, train=train),)
            branches = (*branches, new)
            for number in range(modules):
                is_last = stage == len(self.widths) and number == modules - 1
                outputs = self.depth - 1 if is_last else stage
                module = _Module(self.widths[:stage], outputs, self.dtype, name=f"stage{stage}_module{number}")
                branches = module(*branches, train=train)
        for number, branch in enumerate(branches):
            block = _bottleneck(_FEATURE_WIDTHS[number] // 4, self.dtype, f"widen{number}")
            features.append(block(branch, train=train))
        return features


class _Module(nn.Module):
    """Residual blocks in each branch, whose outputs are then added at each resolution.

    Attributes:
      widths: channels of the branches.
      outputs: number of branches, from the finest on, whose sums are computed.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    widths: tuple[int, ...]
    outputs: int
    dtype: Any

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """Returns one array for each output, like the inputs: [B, H / 2**i, W / 2**i, widths[i]]."""
        branches = []
        for branch, x in enumerate(inputs):
            for number in range(_BLOCKS):
                name = f"branch{branch}_block{number}"
                x = ResidualBlock(self.widths[branch], 1, 1, False, 1, 64, False, self.dtype, name=name)(x, train=train)
            branches.append(x)
        return tuple(
            nn.relu(sum((self._resized(x, source, to, train) for source, x in enumerate(branches)), start=0.0))
            for to in range(self.outputs)
        )

    def _resized(self, x: jax.Array, source: int, to: int, train: bool) -> jax.Array:
        """Returns the features of one branch in the size and with the channels of another."""
        layer = functools.partial(ConvNormAct, padding="SYMMETRIC", dtype=self.dtype)
        name = f"fuse{to}_{source}"
        if source > to:
            factor = 2 ** (source - to)
            x = layer(self.widths[to], 1, activation=identity, name=name)(x, train=train)
            return ops.resize_nearest(x, (factor * x.shape[1], factor * x.shape[2]))
        for step in range(source, to):
            is_last = step == to - 1
            width, activation = (self.widths[to], identity) if is_last else (self.widths[source], nn.relu)
            x = layer(width, 3, 2, activation=activation, name=f"{name}_{step - source}")(x, train=train)
        return x


def _bottleneck(features: int, dtype: Any, name: str) -> nn.Module:
    """Returns a bottleneck block with four times as many output channels as `features`."""
    return ResidualBlock(features, 1, 1, True, 1, 64, False, dtype, name=name)


def _make(widths: tuple[int, int, int, int], *, depth: int, output_stride: int, dtype: Any) -> nn.Module:
    """Returns the module; whatever the depth, images have to be multiples of the coarsest branch's stride."""
    del output_stride
    return HRNet(widths, depth, 32, dtype)


ENCODERS: dict[str, Encoder] = {
    f"hrnet_w{width}": Encoder(
        functools.partial(_make, (width, 2 * width, 4 * width, 8 * width)),
        HubFile(f"timm/hrnet_w{width}.{weights}", "main", license="mit"),
        output_strides=(32,),
    )
    for width, weights in ((18, "ms_aug_in1k"), (48, "ms_in1k"))
}
"""Channels of the first branch, and the tag of timm's default weights."""
