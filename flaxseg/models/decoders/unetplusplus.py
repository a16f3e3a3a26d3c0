"""UNet++ (Zhou et al. 2018, https://arxiv.org/abs/1807.10165) around any encoder."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import ConfigError
from flaxseg.models.arguments import check_choice, check_usable, check_widths
from flaxseg.models.decoders.unet_decoder import UNetBlock
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames, mix_transformer
from flaxseg.models.layers.attention import ChannelAndPlaceAttention


def unetplusplus(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    attention: str = "none",
    auxiliary_weight: float = 0.0,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A UNet++: U-Nets of every depth in one, each of whose nodes joins all of its size before it.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS, but no mix transformer.
      encoder_depth: how often the encoder halves the picture.
      decoder_channels: channels of each row's last node, the coarsest first.
      attention: "scse" for attention in the decoder's nodes, or "none".
      auxiliary_weight: deep supervision: what the training step multiplies the loss of heads on the shallower U-Nets'
        last nodes by; 0: there are none.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    why = "the reference has no UNet++ of a mix transformer; unet, manet, fpn, segformer and upernet take them"
    check_usable("encoder", encoder, mix_transformer.ENCODERS, why=why)
    check_choice("attention", attention, ("none", "scse"))
    widths = check_widths("decoder_channels", decoder_channels, count=encoder_depth)

    def decoder(module: nn.Module) -> UNetPlusPlusDecoder:
        if auxiliary_weight and sum(map(bool, module.channels)) < 3:  # type: ignore[attr-defined]
            raise ConfigError(
                f"auxiliary_weight = {auxiliary_weight!r}: encoder {encoder} with encoder_depth = {encoder_depth} has "
                "two features, which make no shallower U-Net that a head could be on; use 0, or a larger encoder_depth"
            )
        return UNetPlusPlusDecoder(widths, attention, bool(auxiliary_weight), dtype)

    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=decoder,
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        auxiliary_weight=auxiliary_weight,
    )


class UNetPlusPlusDecoder(nn.Module):
    """Nodes `row{i}_node{j}`; row 0 is the coarsest, and node 0 the last of a row, which joins all the others.

    A node up-samples the same node of the row before (the first of a row, the encoder's feature) by 2 and joins with it
    the row's nodes so far and the encoder's feature of that size. The last row is a node without anything to join.
    """

    widths: tuple[int, ...]
    """Channels of each row's last node; its others have those of the encoder's feature."""
    attention: str = "none"
    side_maps: bool = False
    """Whether the other nodes of the finest row of several are returned too, that of the shallowest U-Net first."""
    dtype: Any = jnp.float32

    @property
    def torch_names(self) -> Renames:
        """Which module of torch is which here; the reference has some that it does not use."""
        return (
            (r"center\..*", None),
            (rf"blocks\.x_0_{len(self.widths) - 1}\.attention1\..*", None),
            (r"blocks\.x_(\d)_(\d)\.conv(\d)\.0", r"row\2_node\1/conv\3/conv"),
            (r"blocks\.x_(\d)_(\d)\.conv(\d)\.1", r"row\2_node\1/conv\3/norm"),
            *(
                (rf"blocks\.x_(\d)_(\d)\.attention(\d)\.attention\.{theirs}", rf"row\2_node\1/attention\3/{ours}")
                for theirs, ours in ChannelAndPlaceAttention.torch_names
            ),
        )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        """[B, H, W, widths[-1]], at the size of `features[0]`; with `side_maps` a tuple of it and [B, h, w, C] each."""
        nodes: list[jax.Array] = []
        side_maps: list[jax.Array] = []
        for row, feature in enumerate(features[-2:0:-1]):
            nodes = self._row(row, [*nodes, features[-1 - row]], feature, train=train)
            side_maps = nodes[:0:-1] if feature.shape[-1] else side_maps
        x = ops.resize_nearest(nodes[0], (features[0].shape[1], features[0].shape[2]))
        x = self._node(len(self.widths) - 1, 0, self.widths[-1])(x, train=train)
        return (x, *side_maps) if self.side_maps else x

    def _row(self, row: int, below: Sequence[jax.Array], feature: jax.Array, *, train: bool) -> list[jax.Array]:
        """The nodes of a row, of the encoder's feature there and what each up-samples."""
        nodes: list[jax.Array] = []
        for number in reversed(range(row + 1)):
            width = feature.shape[-1] if number else self.widths[row]
            # Where the encoder has no feature, its shape without channels is that of the nodes but the last.
            x = feature
            if width:
                x = ops.resize_nearest(below[number], (feature.shape[1], feature.shape[2]))
                x = self._node(row, number, width)(x, *nodes, feature, train=train)
            nodes.insert(0, x)
        return nodes

    def _node(self, row: int, number: int, width: int) -> UNetBlock:
        return UNetBlock(width, self.attention, self.dtype, name=f"row{row}_node{number}")
