"""UNet++ (Zhou et al. 2018, https://arxiv.org/abs/1807.10165) with any encoder but a Mix Transformer."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.errors import ArgumentError, check_choice
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.decoder import ATTENTIONS, Decoder, refuse_encoders
from flaxseg.models.decoders.unet import UNetBlock
from flaxseg.models.encoders import mix_transformer
from flaxseg.models.layers.attention import SCSE
from flaxseg.models.pretrained.torch_names import TorchNames


class UNetPlusPlusDecoder(Decoder):
    """Nested U-Nets of every depth: a grid of nodes, each of which concatenates all previous nodes of its row.

    Nodes are named `row{i}_node{j}`: row 0 is the coarsest, and node 0 is the last of its row. A node upsamples the
    same node of the previous row by 2 (the first node of a row: the encoder's feature) and concatenates it with the
    previous nodes of its row and the encoder's feature of that size. The last row has one node and no such inputs.

    Attributes:
      decoder_channels: channels of each row's last node, from the coarsest; one for each halving of the encoder. Other
        nodes have as many channels as the encoder's feature of their size.
      attention: "scse" adds concurrent spatial and channel squeeze and excitation to the nodes; "none".
      auxiliary_head: deep supervision: also return the last nodes of the shallower U-Nets, the shallowest first.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention: str = "none"
    auxiliary_head: bool = False
    dtype: Any = jnp.float32

    @property
    def torch_names(self) -> TorchNames:  # type: ignore[override]
        """The modules of segmentation_models_pytorch; None for those that it never uses."""
        return (
            (r"center\..*", None),
            (rf"blocks\.x_0_{len(self.decoder_channels) - 1}\.attention1\..*", None),
            (r"blocks\.x_(\d)_(\d)\.conv(\d)\.0", r"row\2_node\1/conv\3/conv"),
            (r"blocks\.x_(\d)_(\d)\.conv(\d)\.1", r"row\2_node\1/conv\3/norm"),
            *(
                (rf"blocks\.x_(\d)_(\d)\.attention(\d)\.attention\.{theirs}", rf"row\2_node\1/attention\3/{ours}")
                for theirs, ours in SCSE.torch_names
            ),
        )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options, and that they fit the encoder."""
        reason = "the reference has no UNet++ with a Mix Transformer; unet, manet, fpn, segformer, upernet support them"
        refuse_encoders(encoder, mix_transformer.ENCODERS, reason=reason)
        check_choice("attention", self.attention, ATTENTIONS)
        check_channels("decoder_channels", self.decoder_channels, count=len(channels))
        if self.auxiliary_head and sum(map(bool, channels)) < 3:
            raise ArgumentError(
                "auxiliary_head",
                self.auxiliary_head,
                f"encoder {encoder} with encoder_depth = {len(channels)} has only two features, so that there is "
                "no shallower U-Net for an auxiliary head; use False, or a larger encoder_depth",
            )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        """Returns [B, H, W, decoder_channels[-1]], at the image's size; see `Decoder` for auxiliary heads."""
        nodes: list[jax.Array] = []
        side_maps: list[jax.Array] = []
        for row, feature in enumerate(features[-2:0:-1]):
            nodes = self._row(row, [*nodes, features[-1 - row]], feature, train=train)
            side_maps = nodes[:0:-1] if feature.shape[-1] else side_maps
        size = features[0].shape[1], features[0].shape[2]
        x = self._node(len(self.decoder_channels) - 1, 0, self.decoder_channels[-1])(nodes[0], size=size, train=train)
        return (x, *side_maps) if self.auxiliary_head else x

    def _row(self, row: int, below: Sequence[jax.Array], feature: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns the nodes of a row, given the encoder's feature of its size and the nodes of the previous row."""
        nodes: list[jax.Array] = []
        for number in reversed(range(row + 1)):
            width = feature.shape[-1] if number else self.decoder_channels[row]
            # Where the encoder has no feature, all nodes but the last have no channels either.
            x = feature
            if width:
                size = feature.shape[1], feature.shape[2]
                x = self._node(row, number, width)(below[number], *nodes, feature, size=size, train=train)
            nodes.insert(0, x)
        return nodes

    def _node(self, row: int, number: int, width: int) -> UNetBlock:
        return UNetBlock(width, self.attention, self.dtype, name=f"row{row}_node{number}")
