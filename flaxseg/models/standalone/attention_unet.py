"""Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999) for two-dimensional images."""

import functools

from flaxseg.models.standalone.plain_unet import plain_unet

attention_unet = functools.partial(plain_unet, width=64, gate_from=1)
"""A plain U-Net with gated skips: 32,071,750 parameters for 3 classes and 3 channels.

A gate multiplies each pixel of the encoder's features by a weight between 0 and 1, computed from these features and the
decoder's coarser ones (see `AttentionGate`). As in the paper, the features at full resolution, which are too low-level
for it, have none. The options are those of `plain_unet`, with other defaults for `width` and `gate_from`.
"""
