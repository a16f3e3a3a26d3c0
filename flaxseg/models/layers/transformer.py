"""The blocks of a plain vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.positions import Rotation, rotated

token_initializer = nn.initializers.truncated_normal(0.02)

QKV_BIASES = ("all", "query_value", "none")
"""Which of queries, keys and values have a bias."""


class TransformerBlock(nn.Module):
    """Attention, then an MLP, both residual, after layer normalization, and with stochastic depth.

    Parameters are named `norm{1,2}`, `attention/{qkv,proj}`, `mlp/{expand,project}`, and `scale{1,2}` with LayerScale.

    Attributes:
      heads: number of attention heads.
      layer_scale: initial factor of each channel of the two branches, which is learned (LayerScale, Touvron et al.
        2021, https://arxiv.org/abs/2103.17239); 0: no such factors.
      drop_path_rate: rate at which a branch is dropped for an image in training.
      qkv_bias: one of QKV_BIASES.
      epsilon: added to the variance in layer normalizations.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    heads: int
    layer_scale: float = 0.0
    drop_path_rate: float = 0.0
    qkv_bias: str = "all"
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, rotation: Rotation | None = None, mask: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        """Returns tokens [B, N, C] of tokens [B, N, C].

        Args:
          x: the tokens.
          rotation: rotary position embeddings of the last tokens; see `positions.rotated`.
          mask: which tokens each token attends to, bool[B or 1, heads or 1, N, N]; None: to all.
          train: apply stochastic depth, with the random key "dropout".
        """
        normalize = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        attention = SelfAttention(self.heads, self.qkv_bias, self.dtype, name="attention")
        x = self._add(x, attention(normalize(name="norm1")(x), rotation, mask), "scale1", train=train)
        return self._add(x, _Mlp(self.dtype, name="mlp")(normalize(name="norm2")(x)), "scale2", train=train)

    def _add(self, x: jax.Array, branch: jax.Array, name: str, *, train: bool) -> jax.Array:
        if self.layer_scale:
            initializer = nn.initializers.constant(self.layer_scale)
            branch = branch * self.param(name, initializer, (x.shape[-1],), jnp.float32).astype(self.dtype)
        return x + nn.Dropout(self.drop_path_rate, broadcast_dims=(1, 2), deterministic=not train)(branch)


class SelfAttention(nn.Module):
    """Multi-head self-attention. Parameters are named `qkv`, whose outputs are queries, keys and values, and `proj`.

    Attributes:
      heads: number of heads.
      qkv_bias: one of QKV_BIASES; "query_value" has the parameters `query_bias` and `value_bias`.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    heads: int
    qkv_bias: str = "all"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, rotation: Rotation | None = None, mask: jax.Array | None = None) -> jax.Array:
        """Returns tokens [B, N, C]; see `TransformerBlock` for the arguments."""
        width = x.shape[-1]
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=token_initializer)
        qkv = dense(3 * width, use_bias=self.qkv_bias == "all", name="qkv")(x)
        if self.qkv_bias == "query_value":
            query, value = (self._bias(f"{name}_bias", width) for name in ("query", "value"))
            qkv = qkv + jnp.concatenate([query, jnp.zeros_like(query), value]).astype(self.dtype)
        shape = (*x.shape[:2], self.heads, width // self.heads)
        query, key, value = (each.reshape(shape) for each in jnp.split(qkv, 3, -1))
        if rotation is not None:
            query, key = rotated(query, rotation), rotated(key, rotation)
        # Scores and their softmax are computed in float32, regardless of `dtype`.
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask)
        return dense(width, name="proj")(attended.reshape(x.shape))

    def _bias(self, name: str, width: int) -> jax.Array:
        return self.param(name, nn.initializers.zeros_init(), (width,), jnp.float32)


class _Mlp(nn.Module):
    """A two-layer MLP within each token."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns tokens [B, N, C] of tokens [B, N, C]."""
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=token_initializer)
        return dense(x.shape[-1], name="project")(ops.gelu(dense(4 * x.shape[-1], name="expand")(x)))
