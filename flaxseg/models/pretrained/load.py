"""Pretrained weights: the encoder's or a whole network's tensors of torch, put into the variables of a network here."""

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.errors import WeightsError, did_you_mean
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.hub import download
from flaxseg.models.pretrained.torch_names import below, converted

PUBLIC = "imagenet"
"""What `source` is called for the public weights of a network's encoder."""

_PARALLEL = r"(?:module\.)?"
"""What torch's data parallelism puts before every name."""

_MOST_LISTED = 8


def load_pretrained(
    variables: Mapping[str, Any], model: nn.Module, source: str, *, sha256: str = "", partial: bool = False
) -> dict[str, Any]:
    """Variables with the values of a weights file in the place of their own.

    A file of an encoder alone, under the names of timm, torchvision or segmentation_models_pytorch, fills the
    encoder; a whole model of segmentation_models_pytorch (`encoder.*`, `decoder.*`, `segmentation_head.*`) fills the
    same architecture. Where a picture has other channels than three, the first convolution's are repeated in turn and
    scaled to the same sum, or summed up for one.

    Args:
      variables: `params` and perhaps `batch_stats`, arrays or their shapes, as `model.init` gives them.
      model: made by a function of MODELS with an encoder.
      source: "imagenet" for the encoder's public weights, fetched from the Hugging Face hub, or a file: safetensors,
        npz, or torch.
      sha256: what the file's SHA-256 has to be, or to begin with; "": not checked.
      partial: take what fits, and leave the rest as it is.

    Returns:
      Variables of the same structure; the leaves that were loaded are numpy arrays of float32.

    Raises:
      WeightsError: a network without encoder, a file that cannot be had or read, or, unless `partial`, tensors that
        the network does not have, lacks, or has in another shape: each by name. With `partial`, nothing that fits.
    """
    if not isinstance(model, EncoderDecoder):
        raise WeightsError(
            f"pretrained = {source!r}: {type(model).__name__} has no encoder that weights could be loaded into; "
            "choose a network with model.options.encoder"
        )
    name, tensors = _tensors(model, source, sha256)
    return put_tensors(variables, model, tensors, name=name, partial=partial)


def put_tensors(
    variables: Mapping[str, Any], model: EncoderDecoder, tensors: Mapping[str, np.ndarray], *, name: str, partial: bool
) -> dict[str, Any]:
    """As `load_pretrained`, with the tensors of torch at hand; `name` is what a message calls where they come from."""
    whole = any(re.match(rf"{_PARALLEL}(decoder|segmentation_head)\.", key) for key in tensors)
    given, unknown = converted(tensors, renames_of(model, whole=whole))
    left_out = _deeper_stages(model)
    given = {path: value for path, value in given.items() if path not in left_out}
    return put_arrays(variables, given, unknown=unknown, whole=whole, name=name, partial=partial)


def put_arrays(
    variables: Mapping[str, Any],
    given: Mapping[str, np.ndarray],
    *,
    name: str,
    partial: bool,
    whole: bool = True,
    unknown: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """As `load_pretrained`, with arrays by their path in the variables, such as `params/head/kernel`.

    Args:
      variables: as there.
      given: the arrays.
      name: what a message calls where they come from.
      partial: as there.
      whole: they are of a whole network, not of its encoder alone.
      unknown: names and shapes of further ones for which there is no path.
    """
    own = traverse_util.flatten_dict(dict(variables), sep="/")
    given = {path: _fitted(value, own[path].shape) if path in own else value for path, value in given.items()}
    fitting = {path: value for path, value in given.items() if path in own and value.shape == own[path].shape}
    expected = own if whole else {path for path in own if path.split("/")[1] == "encoder"}
    other = {path: (value.shape, own[path].shape) for path, value in given.items() if path in own.keys() - fitting}
    missing = [f"{path} {own[path].shape}" for path in expected if path not in given]
    beside = {**unknown, **{path: value.shape for path, value in given.items() if path not in own}}
    strange = [f"{name} {shape}" for name, shape in beside.items()]
    if not fitting or (not partial and (missing or strange or other)):
        raise WeightsError(_misfit(name, fitting=len(fitting), missing=missing, strange=strange, other=other))
    return traverse_util.unflatten_dict(own | {k: v.astype(np.float32) for k, v in fitting.items()}, sep="/")


def _tensors(model: EncoderDecoder, source: str, sha256: str) -> tuple[str, dict[str, np.ndarray]]:
    """What a message calls the weights, and their tensors."""
    if source != PUBLIC:
        return str(source), read_weights(source, sha256=sha256)
    public = ENCODERS[model.encoder_name].pretrained
    if public is None:
        having = [name for name, encoder in ENCODERS.items() if encoder.pretrained]
        raise WeightsError(
            f"pretrained = {PUBLIC!r}: there are no public weights of encoder {model.encoder_name}"
            f"{did_you_mean(model.encoder_name, having)}; give the path of a file"
        )
    path = download(public.repository, public.filename, revision=public.revision)
    return f"{public.repository} ({path})", read_weights(path, sha256=sha256)


def renames_of(model: EncoderDecoder, *, whole: bool) -> list[tuple[str, str | None]]:
    """Which module of torch is which here: of the encoder alone, or of a whole network."""
    # timm's features lie in a `model` below the encoder of segmentation_models_pytorch.
    inner = rf"{_PARALLEL}(?:encoder\.)?(?:model\.)?"
    renames = [*below(inner, "encoder", model.encoder.torch_names)]  # type: ignore[attr-defined]
    if whole:
        decoder = model.decoder.torch_names  # type: ignore[attr-defined]
        renames += below(rf"{_PARALLEL}decoder\.", "decoder", decoder)
        renames += below(_PARALLEL, "", model.torch_names)
    return renames


def _deeper_stages(model: EncoderDecoder) -> set[str]:
    """Paths of what the encoder has at its largest depth, and weights are published with, but not at the model's."""
    if model.encoder_name not in ENCODERS:
        return set()
    depth = max(ENCODERS[model.encoder_name].depths)
    if len(model.encoder.channels) == depth:  # type: ignore[attr-defined]
        return set()
    whole = make_encoder(model.encoder_name, depth=depth, dtype=jnp.float32)
    return _encoder_paths(whole) - _encoder_paths(model.encoder)


def _encoder_paths(encoder: nn.Module) -> set[str]:
    picture = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), picture)
    flat = traverse_util.flatten_dict({collection: {"encoder": tree} for collection, tree in shapes.items()}, sep="/")
    return set(flat)


def _fitted(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A first convolution's kernel [kh, kw, C, O] for the channels that pictures have here; others as they are."""
    is_stem = value.ndim == 4 and value.shape[2] == 3 and value.shape != shape
    if not is_stem or (*value.shape[:2], value.shape[3]) != (*shape[:2], shape[3]):
        return value
    if shape[2] == 1:
        return value.sum(2, keepdims=True)
    return value[:, :, np.arange(shape[2]) % 3] * (3 / shape[2])


def _misfit(
    name: str,
    *,
    fitting: int,
    missing: list[str],
    strange: list[str],
    other: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    shapes = [f"{path} {there} in the file, {here} in the network" for path, (there, here) in other.items()]
    parts = [
        f"  {what}: {len(items)} ({'; '.join(items[:_MOST_LISTED])}{'; ...' if len(items) > _MOST_LISTED else ''})"
        for what, items in (
            ("in the network, but not in the file", missing),
            ("in the file, but not in the network", strange),
            ("of another shape", shapes),
        )
        if items
    ]
    remedy = "model.pretrained_partial=True loads what fits" if fitting else "choose the network that they are of"
    return (
        f"{name}: these weights are not of this network; {fitting} of its arrays are there.\n"
        + "\n".join(parts)
        + f"\nNothing was loaded. Check model.name and model.options; {remedy}"
    )
