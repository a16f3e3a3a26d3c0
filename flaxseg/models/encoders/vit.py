"""Plain vision transformers: ViT (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929), DINOv2, DINOv3.

DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193) comes with and without registers (Darcet et al. 2023,
https://arxiv.org/abs/2309.16588); DINOv3 (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104) always has them.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, HubFile
from flaxseg.models.layers.conv import Conv
from flaxseg.models.layers.positions import Rotation, resized, rotation
from flaxseg.models.layers.transformer import TransformerBlock, token_initializer
from flaxseg.models.pretrained.torch_names import TorchNames


class VisionTransformer(nn.Module):
    """A plain vision transformer, whose features are the patch tokens after some of its blocks.

    Parameters are named `patch_embed`, `class_token`, `registers`, `positions`, `block{i}/...` with i from 0, `norm`.
    Position embeddings are resized to any size of image as in timm: bicubically, with antialiasing, without an offset.

    Attributes:
      blocks: number of blocks.
      width: channels of the tokens.
      heads: number of attention heads.
      patch: height and width of a patch.
      grid: number of patches along each side of the square image that the position embeddings belong to; 0: rotary
        position embeddings, which are not learned.
      registers: number of register tokens.
      class_position: the class token has a position embedding.
      layer_scale: initial value of LayerScale; 0: without.
      qkv_bias: one of `transformer.QKV_BIASES`.
      epsilon: added to the variance in layer normalizations.
      drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first block.
      interpolation: how position embeddings are resized; one of `positions.INTERPOLATIONS`.
      feature_blocks: numbers of the blocks, from 1 and in order, whose outputs are the features; (): `depth - 1` of
        four evenly spaced ones, the last of which is the last block. Blocks after the last of these have no parameters.
      open_blocks: number of the last blocks that a call leaves to the decoder, which adds tokens to those of the image;
        the only feature then is the tokens that the first of these blocks takes, [B, prefix + patches, width].
      normalize: apply the final layer normalization to each feature; otherwise the network does not have it.
      class_features: append the class token to the channels of each feature.
      depth: 5 for the whole network; 4 and 3 leave out its last and its last two quarters.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: int
    width: int
    heads: int
    patch: int
    grid: int = 0
    registers: int = 0
    class_position: bool = True
    layer_scale: float = 0.0
    qkv_bias: str = "all"
    epsilon: float = 1e-6
    drop_path_rate: float = 0.1
    interpolation: str = "bicubic_antialias"
    feature_blocks: tuple[int, ...] = ()
    open_blocks: int = 0
    normalize: bool = True
    class_features: bool = False
    depth: int = 5
    dtype: Any = jnp.float32

    @property
    def torch_names(self) -> TorchNames:
        """The names of timm; those of unused modules depend on the features."""
        return (
            (r"patch_embed\.proj", "patch_embed"),
            (r"cls_token", "class_token"),
            (r"reg_token", "registers"),
            (r"pos_embed", "positions"),
            (r"blocks\.(\d+)\.norm(\d)", r"block\1/norm\2"),
            (r"blocks\.(\d+)\.attn\.(qkv|proj)", r"block\1/attention/\2"),
            (r"blocks\.(\d+)\.attn\.q_bias", r"block\1/attention/query_bias"),
            (r"blocks\.(\d+)\.attn\.v_bias", r"block\1/attention/value_bias"),
            (r"blocks\.(\d+)\.(?:ls|gamma_)(\d)(?:\.gamma)?", r"block\1/scale\2"),
            (r"blocks\.(\d+)\.mlp\.fc1", r"block\1/mlp/expand"),
            (r"blocks\.(\d+)\.mlp\.fc2", r"block\1/mlp/project"),
            (r"norm", "norm" if self.normalize else None),
            (r"fc_norm|head|mask_token", None),
        )

    @property
    def taken(self) -> tuple[int, ...]:
        """Numbers of the blocks, from 1, whose outputs are the features."""
        return self.feature_blocks or tuple(self.blocks * part // 4 for part in range(1, self.depth))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features, but the image."""
        return ((1 + self.class_features) * self.width,) * len(self.taken)

    @property
    def output_stride(self) -> int:
        """The stride of every feature: the height and width of a patch."""
        return self.patch

    @property
    def prefix(self) -> int:
        """Number of tokens before those of the patches: the class token and the registers."""
        return 1 + self.registers

    def setup(self) -> None:
        """Makes the layers, so that methods can apply them in parts."""
        options = {"padding": "VALID", "dtype": self.dtype, "kernel_init": token_initializer}
        self.patch_embed = Conv(self.width, self.patch, self.patch, **options)
        self.class_token = self._tokens("class_token", 1)
        if self.registers:
            self.register_tokens = self._tokens("registers", self.registers)
        if self.grid:
            self.positions = self._tokens("positions", self.class_position + self.grid * self.grid)
        for number in range(self.taken[-1]):
            rate = self.drop_path_rate * number / max(self.blocks - 1, 1)
            block = TransformerBlock(self.heads, self.layer_scale, rate, self.qkv_bias, self.epsilon, self.dtype)
            setattr(self, f"block{number}", block)
        if self.normalize:
            self.norm = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)

    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns the image itself, then the features of each of `taken`, [B, H / patch, W / patch, channels]."""
        size = x.shape[1] // self.patch, x.shape[2] // self.patch
        tokens, rotary = self.embed(x), self.rotation(size)
        if self.open_blocks:
            return [x, self.run(tokens, rotary, first=0, last=self.blocks - self.open_blocks, train=train)]
        features, done = [x], 0
        for number in self.taken:
            tokens = self.run(tokens, rotary, first=done, last=number, train=train)
            features.append(self.feature_map(tokens, size))
            done = number
        return features

    def embed(self, x: jax.Array) -> jax.Array:
        """Returns the tokens that the first block takes: the class token, the registers, and the patches in rows.

        Args:
          x: images, float[B, H, W, C], whose height and width are multiples of `patch`.

        Returns:
          [B, prefix + H * W / patch**2, width].
        """
        patches = self.patch_embed(x)
        batch, height, width, channels = patches.shape
        first, patches = self.class_token, patches.reshape(batch, height * width, channels)
        if self.grid:
            places = resized(self.positions, (height, width), grid=self.grid, interpolation=self.interpolation)
            patches = patches + places[:, int(self.class_position) :].astype(self.dtype)
            first = first + places[:, :1] if self.class_position else first
        tokens = [first, self.register_tokens] if self.registers else [first]
        spread = [jnp.broadcast_to(each, (batch, *each.shape[1:])).astype(self.dtype) for each in tokens]
        # jax2onnx converts jnp.concatenate to one that forgets symbolic lengths.
        return lax.concatenate([*spread, patches], 1)

    def rotation(self, size: tuple[int, int]) -> Rotation | None:
        """Returns the rotary position embeddings of a grid of patches of this height and width, if there are any."""
        return None if self.grid else rotation(size, self.width // self.heads)

    def run(
        self,
        tokens: jax.Array,
        rotary: Rotation | None,
        mask: jax.Array | None = None,
        *,
        first: int,
        last: int,
        train: bool,
    ) -> jax.Array:
        """Returns the tokens after the blocks with indices from `first` to `last - 1`.

        Args:
          tokens: [B, N, width]; those of the patches are the last ones.
          rotary: what `rotation` returns.
          mask: which tokens each token attends to, bool[B or 1, heads or 1, N, N]; None: to all.
          first: index of the first block, from 0.
          last: index after that of the last block.
          train: apply stochastic depth, with the random key "dropout".
        """
        for number in range(first, last):
            block = getattr(self, f"block{number}")
            tokens = block(tokens, rotary, mask, train=train)
        return tokens

    def feature_map(self, tokens: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Returns the tokens of the patches, [B, *size, channels]; see `normalize` and `class_features`."""
        tokens = self.norm(tokens) if self.normalize else tokens
        patches = tokens[:, self.prefix :]
        if self.class_features:
            patches = jnp.concatenate([patches, jnp.broadcast_to(tokens[:, :1], patches.shape)], -1)
        return patches.reshape(tokens.shape[0], *size, patches.shape[-1])

    def _tokens(self, name: str, count: int) -> jax.Array:
        return self.param(name, token_initializer, (1, count, self.width), jnp.float32)


def _make(*size: Any, output_stride: int, **options: Any) -> VisionTransformer:
    """Returns the module. Its features are at one stride; `feature_pyramid` makes those of the output stride."""
    del output_stride
    return VisionTransformer(*size, **options)


_SIZES = {"small": (12, 384, 6), "base": (12, 768, 12), "large": (24, 1024, 16)}
"""Blocks, channels and attention heads."""

_HALF = (127.5, 127.5, 127.5)

_IN_1K = "augreg_in21k_ft_in1k"


def _encoder(name: str, tag: str, *size: int, license: str = "apache-2.0", **options: Any) -> Encoder:
    weights = HubFile(f"timm/{name}.{tag}", "main", license=license)
    mean, std = (_HALF, _HALF) if "augreg" in tag else (IMAGENET_MEAN, IMAGENET_STD)
    return Encoder(functools.partial(_make, *size, **options), weights, mean, std, patch=options["patch"])


ENCODERS: dict[str, Encoder] = {
    **{
        name: _encoder(name, tag, *_SIZES[size], patch=16, grid=grid)
        for name, size, grid, tag in (
            ("vit_base_patch16_224", "base", 14, "augreg2_in21k_ft_in1k"),
            ("vit_base_patch16_384", "base", 24, _IN_1K),
            ("vit_large_patch16_384", "large", 24, _IN_1K),
        )
    },
    **{
        (name := f"vit_{size}_patch14_dinov2"): _encoder(name, "lvd142m", *numbers, patch=14, grid=37, layer_scale=1e-5)
        for size, numbers in _SIZES.items()
    },
    **{
        (name := f"vit_{size}_patch14_reg4_dinov2"): _encoder(
            name, "lvd142m", *numbers, patch=14, grid=37, registers=4, class_position=False, layer_scale=1e-5
        )
        for size, numbers in _SIZES.items()
    },
    **{
        (name := f"vit_{size}_patch16_dinov3"): _encoder(
            name,
            "lvd1689m",
            *numbers,
            license="dinov3-license",
            patch=16,
            registers=4,
            layer_scale=1e-5,
            qkv_bias="none",
            epsilon=1e-5,
        )
        for size, numbers in _SIZES.items()
    },
}
"""Vision transformers by timm's names. DINOv3's weights have a license of their own, which has to be accepted."""
