"""The encoders: `ENCODERS` names every variant; a family is one file and one line here."""

from typing import Any

import flax.linen as nn

from flaxseg.errors import ConfigError
from flaxseg.lookup import did_you_mean
from flaxseg.models.encoders import resnet
from flaxseg.models.encoders.encoder import Encoder, Encoders, HubFile, Renames

ENCODERS: dict[str, Encoder] = {
    **resnet.ENCODERS,
}
"""Encoders by the name that a configuration gives."""

__all__ = ["ENCODERS", "Encoder", "Encoders", "HubFile", "Renames", "make_encoder"]


def make_encoder(name: str, *, depth: int = 5, output_stride: int = 32, remat: bool = False, dtype: Any) -> nn.Module:
    """The encoder called `name`, a module as `Encoder.make` returns it.

    Raises:
      ConfigError: no encoder of this name (says the nearest), or one that cannot have this depth or output stride.
    """
    if name not in ENCODERS:
        raise ConfigError(
            f"encoder = {name!r}: unknown{did_you_mean(str(name), ENCODERS)}. Known are {', '.join(ENCODERS)}"
        )
    encoder = ENCODERS[name]
    for option, value, allowed in (
        ("encoder_depth", depth, encoder.depths),
        ("output_stride", output_stride, encoder.output_strides),
    ):
        if value not in allowed:
            raise ConfigError(f"{option} = {value!r}: of encoder {name} it can be {' or '.join(map(str, allowed))}")
    return encoder.make(depth=depth, output_stride=min(output_stride, 2**depth), remat=remat, dtype=dtype)
