"""Converts the tensors of PyTorch's networks to arrays of a network of an `Architecture`."""

import functools
import re
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors, nested

_WRAPPERS = r"(?:(?:module|_orig_mod|model)\.)*"
"""The prefixes that PyTorch's data parallelism, `torch.compile` and Lightning modules add to every name."""

_NORMALIZATION = ((rf"{_WRAPPERS}(?:mean|std)", None),)
"""Buffers of Lightning modules that normalize images themselves."""


def is_whole_network(names: Iterable[str]) -> bool:
    """Returns whether tensors are those of a whole network of segmentation_models_pytorch, not of an encoder alone."""
    return any(re.match(rf"{_WRAPPERS}(decoder|segmentation_head)\.", name) for name in names)


def tensor_arrays(
    model: EncoderDecoder, tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Returns PyTorch tensors as arrays by their path in a network, and the shapes of tensors without a path.

    Tensors of the encoder's stages beyond the network's depth are left out.

    Args:
      model: a network of an `Architecture`.
      tensors: arrays by their PyTorch names.
    """
    given, unknown = convert_tensors(tensors, torch_names_of(model, whole=is_whole_network(tensors)))
    unused = _deeper_stages(model)
    return {path: value for path, value in given.items() if path not in unused}, unknown


def torch_names_of(model: EncoderDecoder, *, whole: bool) -> TorchNames:
    """Returns the PyTorch names of a network's modules.

    Args:
      model: a network of an `Architecture`.
      whole: include decoder and heads, not the encoder alone.
    """
    # timm's feature extractors are the attribute `model` of an encoder of segmentation_models_pytorch.
    prefix = rf"{_WRAPPERS}(?:encoder\.)?(?:model\.)?"
    names = [*nested(prefix, "encoder", model.encoder.torch_names)]  # type: ignore[attr-defined]
    if whole:
        decoder = model.decoder.torch_names  # type: ignore[attr-defined]
        names += nested(rf"{_WRAPPERS}decoder\.", "decoder", decoder)
        names += [*nested(_WRAPPERS, "", model.torch_names), *_NORMALIZATION]
    return names


def _deeper_stages(model: EncoderDecoder) -> set[str]:
    """Returns the paths of the encoder's stages beyond the network's depth, which published weights include."""
    if model.encoder_name not in ENCODERS:
        return set()
    depth = max(ENCODERS[model.encoder_name].depths)
    if len(model.encoder.channels) == depth:  # type: ignore[attr-defined]
        return set()
    whole = make_encoder(model.encoder_name, depth=depth, dtype=jnp.float32)
    return _encoder_paths(whole) - _encoder_paths(model.encoder)


def _encoder_paths(encoder: nn.Module) -> set[str]:
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), image)
    flat = traverse_util.flatten_dict({collection: {"encoder": tree} for collection, tree in shapes.items()}, sep="/")
    return set(flat)
