"""The encoders: `ENCODERS` names every variant; a family is one file and one line here."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from flaxseg.errors import ConfigError, did_you_mean
from flaxseg.models.encoders import convnext, efficientnet, mix_transformer, mobilenet_v2, resnet, vgg
from flaxseg.models.encoders.encoder import Encoder, HubFile, Renames

ENCODERS: dict[str, Encoder] = {
    **resnet.ENCODERS,
    **vgg.ENCODERS,
    **mobilenet_v2.ENCODERS,
    **efficientnet.ENCODERS,
    **convnext.ENCODERS,
    **mix_transformer.ENCODERS,
}
"""Encoders by the name that a configuration gives."""

__all__ = ["ENCODERS", "Encoder", "HubFile", "Renames", "check_output_stride", "make_encoder"]


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


def check_output_stride(value: Any, allowed: Sequence[int], *, encoder: str) -> None:
    """Raises ConfigError unless an output stride is one that a network allows, and its encoder (if known) can have."""
    choices = ", ".join(map(str, allowed))
    if not isinstance(value, int) or value not in allowed:
        raise ConfigError(f"output_stride = {value!r}: allowed are {choices}")
    if encoder not in ENCODERS or value in ENCODERS[encoder].output_strides:
        return
    common = [f"output_stride = {stride}, or " for stride in allowed if stride in ENCODERS[encoder].output_strides]
    fitting = [name for name, other in ENCODERS.items() if value in other.output_strides]
    raise ConfigError(
        f"output_stride = {value!r}: encoder {encoder} cannot be dilated to it; this network allows {choices}. "
        f"Set {''.join(common)}encoder to one of {', '.join(fitting)}"
    )
