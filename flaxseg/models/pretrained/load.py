"""Loads pretrained weights of an encoder or of a whole network into a network's variables."""

import os
import sys
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from flaxseg.errors import WeightsError
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.pretrained.checkpoints import checkpoint_directory, read_checkpoint
from flaxseg.models.pretrained.encoder_weights import PUBLIC, read_encoder_weights
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.licenses import print_license
from flaxseg.models.pretrained.mapped_file import in_memory
from flaxseg.models.pretrained.public_source import PublicNetwork, is_public, open_public
from flaxseg.models.pretrained.repository import Repository
from flaxseg.models.pretrained.torch_networks import is_whole_network, tensor_arrays

HEADS = ("head", "auxiliary_", "image_head")
"""Beginnings of the names of the modules that depend on the number of classes."""

CLASS_HEAD = "class_head"
"""The name of such a module within a decoder."""

_MAX_LISTED = 8


def load_pretrained(
    variables: Mapping[str, Any],
    model: nn.Module,
    source: str,
    *,
    sha256: str = "",
    partial: bool = False,
    accept_license: bool = False,
) -> dict[str, Any]:
    """Returns a network's variables with the values of pretrained weights.

    Weights of an encoder, under the names of timm, torchvision or segmentation_models_pytorch, fill the encoder;
    weights of a whole network of segmentation_models_pytorch (`encoder.*`, `decoder.*`, `segmentation_head.*`) fill a
    network of the same architecture. If images do not have three channels, the kernel of the first convolution is
    summed over its channels for one channel, and otherwise repeated and scaled to the same sum. Weights that flaxseg
    itself wrote, in a run or in a file, fill any network of the same architecture. A public network fills one that has
    the name and the options of its `public_source.PublicNetwork`; heads with another number of classes keep the values
    that they have.

    Args:
      variables: `params` and perhaps `batch_stats`, arrays or their shapes, as `model.init` returns them.
      model: the network; for weights under PyTorch's names a network of an `Architecture`.
      source: "imagenet" for the encoder's public weights, downloaded from the Hugging Face hub; the path of a
        safetensors, npz or PyTorch file; the directory of a run, of its checkpoints, or of one of them; or a public
        network: `hf:owner/name`, `hf:owner/name@revision`, a folder in the layout of segmentation_models_pytorch or
        transformers, or a file of torchvision's segmentation networks. From a run, the latest checkpoint is
        taken, and the moving average of its parameters if it has one.
      sha256: the expected SHA-256 of the file, or its first digits; "": not checked. A directory has none.
      partial: load the arrays that fit, and keep the others.
      accept_license: accept a license of public weights that is non-commercial or custom.

    Returns:
      Variables of the same structure; loaded leaves are numpy arrays of float32.

    Raises:
      WeightsError: weights of an encoder for a network without one; the file or checkpoint is missing or cannot be
        read; unless `partial`, names or shapes differ from the network's, all of which the message lists; or, with
        `partial`, no array fits.
    """
    if is_public(source):
        found = open_public(source, accept_license=accept_license)
        print_license(found.license, found.name)
        return _put_public(variables, model, found, sha256=sha256, partial=partial)
    if source != PUBLIC and os.path.isdir(os.path.expanduser(source)):
        directory = checkpoint_directory(os.path.expanduser(source))
        return put_arrays(variables, read_checkpoint(directory), name=str(directory), partial=partial)
    if source == PUBLIC:
        name, tensors = read_encoder_weights(
            _with_encoder(model, source).encoder_name, sha256=sha256, accept_license=accept_license
        )
    else:
        name, tensors = str(source), read_weights(source, sha256=sha256)
    if own := own_arrays(tensors):
        return put_arrays(variables, own, name=name, partial=partial)
    return put_tensors(variables, _with_encoder(model, source), tensors, name=name, partial=partial)


def _put_public(
    variables: Mapping[str, Any],
    model: nn.Module,
    found: PublicNetwork | Repository,
    *,
    sha256: str,
    partial: bool,
) -> dict[str, Any]:
    given: dict[str, np.ndarray]
    unknown: Mapping[str, tuple[int, ...]]
    if isinstance(found, Repository):
        given, unknown = own_arrays(found.tensors(sha256=sha256)), {}
    else:
        given, unknown = found.arrays(_with_encoder(model, found.name), sha256=sha256)
    wanted = traverse_util.flatten_dict(dict(variables), sep="/")
    # Together, because the kernel of another head can have the right shape by chance.
    heads = {_head_of(path) for path in given if not _fits(given[path], wanted.get(path))} - {""}
    kept = {path: given.pop(path) for path in [*given] if _head_of(path) not in heads}
    _print_heads(found.name, heads, present={_head_of(path) for path in wanted})
    missing = {path: value for path, value in wanted.items() if path not in kept and _head_of(path)}
    required = {path: value for path, value in wanted.items() if path not in missing}
    loaded = put_arrays(
        traverse_util.unflatten_dict(required, sep="/"), kept, unknown=unknown, name=found.name, partial=partial
    )
    return traverse_util.unflatten_dict(traverse_util.flatten_dict(loaded, sep="/") | missing, sep="/")


def _print_heads(name: str, heads: set[str], *, present: set[str]) -> None:
    if anew := sorted(heads & present):
        print(
            f"{name}: the number of classes differs, so that these are initialized anew: {', '.join(anew)}",
            file=sys.stderr,
        )
    if left_out := sorted(heads - present):
        print(f"{name}: not loaded, because the network does not have them: {', '.join(left_out)}", file=sys.stderr)


def _head_of(path: str) -> str:
    """Returns the path of the head that an array belongs to, without its collection; "" for other arrays."""
    first, *rest = path.split("/")[1:]
    if first.startswith(HEADS):
        return first
    module = [first, *rest]
    return "/".join(module[: module.index(CLASS_HEAD) + 1]) if CLASS_HEAD in module else ""


def _fits(value: np.ndarray, wanted: Any) -> bool:
    return wanted is not None and value.shape == wanted.shape


def own_arrays(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by their path in a network's variables; {} if flaxseg did not name them.

    Args:
      tensors: arrays by name, such as `params/head/kernel` or `params.head.kernel`.
    """
    paths = {name.replace(".", "/"): value for name, value in tensors.items()}
    return paths if all(path.startswith(("params/", "batch_stats/")) for path in paths) else {}


def put_tensors(
    variables: Mapping[str, Any], model: EncoderDecoder, tensors: Mapping[str, np.ndarray], *, name: str, partial: bool
) -> dict[str, Any]:
    """Returns a network's variables with the values of PyTorch tensors; see `load_pretrained`.

    Args:
      variables: `params` and perhaps `batch_stats`, arrays or their shapes, as `model.init` returns them.
      model: a network of an `Architecture`.
      tensors: arrays by their PyTorch names.
      name: the tensors' origin, for error messages.
      partial: load the arrays that fit, and keep the others.

    Raises:
      WeightsError: unless `partial`, names or shapes differ from the network's; with `partial`, no array fits.
    """
    given, unknown = tensor_arrays(model, tensors)
    whole = is_whole_network(tensors)
    entry = ENCODERS.get(model.encoder_name)
    may_lack = f"encoder/{entry.added}/" if entry and entry.added and not whole else None
    return put_arrays(variables, given, unknown=unknown, whole=whole, may_lack=may_lack, name=name, partial=partial)


def put_arrays(
    variables: Mapping[str, Any],
    given: MutableMapping[str, np.ndarray],
    *,
    name: str,
    partial: bool,
    whole: bool = True,
    may_lack: str | None = None,
    unknown: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns a network's variables with the values of arrays given by their paths; see `load_pretrained`.

    Args:
      variables: `params` and perhaps `batch_stats`, arrays or their shapes, as `model.init` returns them.
      given: arrays by their path in the variables, such as `params/head/kernel`, of any type. It is emptied, so that an
        array and its copy are not in memory at once longer than necessary.
      name: the arrays' origin, for error messages.
      partial: load the arrays that fit, and keep the others.
      whole: the arrays are those of a whole network, not of its encoder alone.
      may_lack: the beginning of the paths, without their collection, of arrays of which all or none may be missing;
        None: none may be.
      unknown: names and shapes of arrays in the file that have no path.

    Raises:
      WeightsError: unless `partial`, names or shapes differ from the network's; with `partial`, no array fits.
    """
    wanted = traverse_util.flatten_dict(dict(variables), sep="/")
    given.update({path: _adapted(given[path], wanted[path].shape) for path in given.keys() & wanted.keys()})
    fitting = [path for path in wanted if path in given and given[path].shape == wanted[path].shape]
    expected = {path for path in wanted if whole or path.split("/")[1] == "encoder"}
    if may_lack is not None:
        lacking = {path for path in expected if path.partition("/")[2].startswith(may_lack)}
        expected = expected if lacking & given.keys() else expected - lacking
    other = {
        path: (given[path].shape, wanted[path].shape)
        for path in given
        if path in wanted and given[path].shape != wanted[path].shape
    }
    missing = [f"{path} {leaf.shape}" for path, leaf in wanted.items() if path in expected and path not in given]
    surplus = {**unknown, **{path: value.shape for path, value in given.items() if path not in wanted}}
    unexpected = [f"{name} {shape}" for name, shape in surplus.items()]
    if not fitting or (not partial and (missing or unexpected or other)):
        raise WeightsError(_mismatch(name, fitting=len(fitting), missing=missing, unexpected=unexpected, other=other))
    loaded = {path: in_memory(given.pop(path)) for path in fitting}
    given.clear()
    return traverse_util.unflatten_dict(wanted | loaded, sep="/")


def _with_encoder(model: nn.Module, source: str) -> EncoderDecoder:
    if not isinstance(model, EncoderDecoder):
        raise WeightsError(
            f"{source!r}: {type(model).__name__} has no encoder that these weights could be loaded into; give "
            "the directory of a run of this network, or choose an architecture with the option `encoder`, such as unet"
        )
    return model


def _adapted(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the kernel [kh, kw, 3, O] of a first convolution for images of other channels; other arrays unchanged."""
    is_stem = value.ndim == 4 and value.shape[2] == 3 and value.shape != shape
    if not is_stem or (*value.shape[:2], value.shape[3]) != (*shape[:2], shape[3]):
        return value
    value = in_memory(value)
    if shape[2] == 1:
        return value.sum(2, keepdims=True)
    return value[:, :, np.arange(shape[2]) % 3] * (3 / shape[2])


def _mismatch(
    name: str,
    *,
    fitting: int,
    missing: list[str],
    unexpected: list[str],
    other: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    shapes = [f"{path} {there} in the file, {here} in the network" for path, (there, here) in other.items()]
    parts = [
        f"  {what}: {len(items)} ({'; '.join(items[:_MAX_LISTED])}{'; ...' if len(items) > _MAX_LISTED else ''})"
        for what, items in (
            ("in the network, but not in the file", missing),
            ("in the file, but not in the network", unexpected),
            ("of another shape", shapes),
        )
        if items
    ]
    remedy = "partial=True loads what fits" if fitting else "choose the network that the weights belong to"
    return (
        f"{name}: these weights do not belong to this network; {fitting} of its arrays are in the file.\n"
        + "\n".join(parts)
        + f"\nNothing was loaded. Check the architecture, the encoder and their options; {remedy}"
    )
