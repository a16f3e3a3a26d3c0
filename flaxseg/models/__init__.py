"""The networks: `MODELS` names every constructor; each is keyword-only and checks its arguments."""

from collections.abc import Callable

import flax.linen as nn

from flaxseg.models.unet import CLASSIC, UNet, unet

MODELS: dict[str, Callable[..., nn.Module]] = {"unet": unet}
"""Constructors by the name that a configuration gives. A new model is one file and one line here."""

__all__ = ["CLASSIC", "MODELS", "UNet", "unet"]
