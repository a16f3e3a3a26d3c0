"""EoMT, the encoder-only mask transformer (Kerssies et al. 2025, https://arxiv.org/abs/2503.19108)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import ArgumentError, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.encoders import vit
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.layers.conv import Conv, ConvTranspose
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.queries import query_logits


class EoMTDecoder(Decoder):
    """Queries that pass through the last blocks of a vision transformer as further tokens, and predict masks.

    Each query predicts a class, or none, and a mask: the product of its embedding, from three dense layers, with the
    upscaled patches. The logits of the pixels are the logarithms of the queries' scores; see `query_logits`. Any loss
    of pixels trains the network. The paper trains with a loss of matched masks instead, and with attention that is
    masked at first; here attention is never masked, as in the paper for inference.

    Parameters are named `queries`, `class_head`, `mask{i}` and `upscale{i}/{conv,depthwise,norm}`.

    Attributes:
      queries: number of queries.
      blocks: number of blocks that the queries pass through.
      upscalings: number of times that height and width of the patches are doubled for the masks.
      patch: height and width of the patches; 0: those of the encoder, as its public weights require.
      grid: number of patches along each side of the image that the position embeddings belong to; 0: the encoder's.
      num_classes: number of classes.
      patch_features: the encoder is a vision transformer.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    queries: int = 100
    blocks: int = 4
    upscalings: int = 2
    patch: int = 0
    grid: int = 0
    num_classes: int = 2
    patch_features: bool = False
    dtype: Any = jnp.float32

    takes_patches = True
    runs_encoder = True

    def adapt(self, encoder: VisionTransformer) -> VisionTransformer:
        """Returns the vision transformer that leaves its last blocks to this decoder."""
        check_integer("blocks", self.blocks, 1)
        check_integer("patch", self.patch, 0)
        check_integer("grid", self.grid, 0)
        if self.blocks > encoder.blocks:
            raise ArgumentError("blocks", self.blocks, f"must be at most {encoder.blocks}, as many as the encoder has")
        if self.grid and not encoder.grid:
            raise ArgumentError("grid", self.grid, "the encoder has rotary position embeddings; leave it out")
        return dataclasses.replace(
            encoder,
            open_blocks=self.blocks,
            feature_blocks=(encoder.blocks,),
            patch=self.patch or encoder.patch,
            grid=self.grid or encoder.grid,
        )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks that the options are in range, and that the encoder is a vision transformer."""
        check_integer("queries", self.queries, 1)
        check_integer("upscalings", self.upscalings, 0)
        if not self.patch_features:
            names = ", ".join(vit.ENCODERS)
            raise ArgumentError("encoder", encoder, f"must be a vision transformer: {names}")

    @nn.compact
    def __call__(  # type: ignore[override]
        self, features: Sequence[jax.Array], *, train: bool, encoder: VisionTransformer
    ) -> jax.Array:
        """Returns the logits, float32[B, H, W, num_classes].

        Args:
          features: the padded image [B, H, W, C], and the tokens that the last blocks take, [B, N, width].
          train: apply stochastic depth.
          encoder: the vision transformer, whose last blocks are run.
        """
        image, tokens = features
        size = image.shape[1] // encoder.patch, image.shape[2] // encoder.patch
        batch, _, width = tokens.shape
        queries = self.param("queries", nn.initializers.normal(1.0), (1, self.queries, width), jnp.float32)
        joined = jnp.concatenate(
            [jnp.broadcast_to(queries, (batch, self.queries, width)).astype(self.dtype), tokens], 1
        )
        first = encoder.blocks - self.blocks
        joined = encoder.run(joined, encoder.rotation(size), first=first, last=encoder.blocks, train=train)
        joined = encoder.norm(joined)
        queries, patches = joined[:, : self.queries], joined[:, self.queries + encoder.prefix :]
        masks = self._masks(queries, patches.reshape(batch, *size, width))
        # Not in bfloat16, because rounding errors of the logits would affect the loss.
        wide = jnp.promote_types(self.dtype, jnp.float32)
        classes = Dense(self.num_classes + 1, dtype=wide, name="class_head")(queries.astype(wide))
        return query_logits(classes, masks, (image.shape[1], image.shape[2]))

    def _masks(self, queries: jax.Array, patches: jax.Array) -> jax.Array:
        """Returns the logits of the masks, [B, h, w, queries]."""
        dense = functools.partial(Dense, queries.shape[-1], dtype=self.dtype)
        for number in range(3):
            queries = dense(name=f"mask{number}")(ops.gelu(queries) if number else queries)
        for number in range(self.upscalings):
            patches = _Upscaling(self.dtype, name=f"upscale{number}")(patches)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return jnp.einsum("bqc,bhwc->bhwq", queries.astype(wide), patches.astype(wide))


class _Upscaling(nn.Module):
    """A transposed convolution by 2, GELU, a 3x3 depthwise convolution, and layer normalization."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, 2 * H, 2 * W, C] of [B, H, W, C]."""
        width = x.shape[-1]
        x = ops.gelu(ConvTranspose(width, dtype=self.dtype, name="conv")(x))
        x = Conv(width, 3, groups=width, use_bias=False, dtype=self.dtype, name="depthwise")(x)
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
