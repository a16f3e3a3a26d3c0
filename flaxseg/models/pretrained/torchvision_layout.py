"""The segmentation checkpoints of torchvision, which are recognized by the names of their tensors."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.decoders.aspp import ASPP
from flaxseg.models.pretrained.licenses import License
from flaxseg.models.pretrained.published import Arrays, Layout, Unknown
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors, nested

DATASET = "PASCAL VOC"
"""The dataset whose classes the published checkpoints have."""

LICENSE = License(
    "bsd-3-clause",
    "of torchvision; for weights, it refers to the terms of their training data",
    "https://github.com/pytorch/vision#pre-trained-model-license",
)
"""The license of the published checkpoints, as far as torchvision states it."""

_VOC_CLASSES = 21
_T = TypeVar("_T")

_KINDS = {
    "classifier.0.convs.0.0.weight": "deeplabv3",
    "classifier.low_classifier.weight": "lraspp",
    "classifier.0.weight": "fcn",
}
"""The name in MODELS of the network that has a tensor of this name."""

_LAST = {"deeplabv3": "classifier.4.weight", "lraspp": "classifier.low_classifier.weight", "fcn": "classifier.4.weight"}
"""For each network, the tensor that has a row for each class."""

_RESNETS = {6: "resnet50", 23: "resnet101"}
"""ResNets by the number of blocks in their third layer."""

_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod|model)\.)+(?=(?:backbone|classifier|aux_classifier)\.)")

_CLASSIFIERS: Mapping[str, TorchNames] = {
    "fcn": (
        (r"classifier\.0", "decoder/reduce/conv"),
        (r"classifier\.1", "decoder/reduce/norm"),
        (r"classifier\.4", "head"),
    ),
    "deeplabv3": (
        *nested(r"classifier\.0\.", "decoder/aspp", ASPP.torch_names),
        (r"classifier\.1", "decoder/refine/conv"),
        (r"classifier\.2", "decoder/refine/norm"),
        (r"classifier\.4", "head"),
    ),
    "lraspp": (
        (r"classifier\.cbr\.0", "decoder/reduce/conv"),
        (r"classifier\.cbr\.1", "decoder/reduce/norm"),
        (r"classifier\.scale\.1", "decoder/gate"),
        (r"classifier\.both", "head"),
    ),
}

_AUXILIARY: TorchNames = (
    (r"aux_classifier\.0", "auxiliary_block/conv"),
    (r"aux_classifier\.1", "auxiliary_block/norm"),
    (r"aux_classifier\.4", "auxiliary_head0"),
)


def is_torchvision(shapes: Mapping[str, Any]) -> bool:
    """Returns whether tensors, by their names, are those of one of torchvision's segmentation networks."""
    return _kind(_unwrapped(shapes)) is not None


def read_torchvision(shapes: Mapping[str, tuple[int, ...]], name: str) -> Layout:
    """Returns the network that tensors belong to.

    Args:
      shapes: the shapes of the tensors by their names, for which `is_torchvision` is true.
      name: what messages call the file.

    Raises:
      WeightsError: its encoder is none of those that torchvision combines with this network.
    """
    shapes = _unwrapped(shapes)
    kind = _kind(shapes)
    assert kind is not None
    classes, notes = shapes[_LAST[kind]][0], []
    if "backbone.0.0.weight" in shapes:
        options: dict[str, Any] = {"encoder": "mobilenet_v3_large", "output_stride": 16}
        stem = "backbone.0.0.weight"
        if "aux_classifier.0.weight" in shapes:
            notes.append("the auxiliary head, which predictions do not use, is not loaded")
    else:
        blocks = sum(re.fullmatch(r"backbone\.layer3\.\d+\.conv3\.weight", each) is not None for each in shapes)
        stem = "backbone.conv1.weight"
        if blocks not in _RESNETS or stem not in shapes:
            known = ", ".join((*_RESNETS.values(), "mobilenet_v3_large"))
            raise WeightsError(f"{name}: its encoder is none of those of torchvision's {kind} networks ({known})")
        options = {"encoder": _RESNETS[blocks], "output_stride": 8, "late_dilation": True}
        if "aux_classifier.0.weight" in shapes:
            options |= {"auxiliary_head": True, "auxiliary_channels": shapes["aux_classifier.0.weight"][0]}
    if classes == _VOC_CLASSES:
        notes.append(f"its {classes} classes are assumed to be those of {DATASET}, as in torchvision's own checkpoints")
    return Layout(kind, options | {"align_corners": False}, classes, shapes[stem][1], _convert, notes=tuple(notes))


def is_published(layout: Layout) -> bool:
    """Returns whether a network has the number of classes of torchvision's own checkpoints."""
    return layout.num_classes == _VOC_CLASSES


def _kind(shapes: Mapping[str, Any]) -> str | None:
    if not any(name.startswith("backbone.") for name in shapes):
        return None
    return next((kind for name, kind in _KINDS.items() if name in shapes and _LAST[kind] in shapes), None)


def _unwrapped(tensors: Mapping[str, _T]) -> dict[str, _T]:
    """Returns tensors by their names without the prefixes that training programs add."""
    return {_WRAPPERS.sub("", name, count=1) if _WRAPPERS.match(name) else name: each for name, each in tensors.items()}


def _convert(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    tensors = _unwrapped(tensors)
    # torchvision adds up the logits of both features of LR-ASPP; here, one convolution computes them together.
    high, low = (f"classifier.{feature}_classifier" for feature in ("high", "low"))
    if f"{low}.weight" in tensors and f"{high}.weight" in tensors:
        kernels, biases = ([tensors.pop(f"{part}.{leaf}") for part in (low, high)] for leaf in ("weight", "bias"))
        tensors |= {"classifier.both.weight": np.concatenate(kernels, 1), "classifier.both.bias": np.add(*biases)}
    names = nested(r"backbone\.", "encoder", model.encoder.torch_names)
    names = (*names, *_CLASSIFIERS[_kind(tensors) or "lraspp"], *_AUXILIARY)
    if "backbone.0.0.weight" in tensors:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("aux_classifier.")}
    return convert_tensors(tensors, names)
