"""Writes features and gradients of timm's encoders, computed in float64, as references; requires PyTorch.

    python tests/parity/encoders_reference.py --out DIR [regnety_016 ...]

Without names, it writes all `references.COMPARED_FEATURES`. Each is a file NAME.npz with the names and shapes of the
network's tensors, its features for images of both sizes and both output strides in inference mode, and, for
`references.WITH_GRADIENTS`, the gradient of a weighted mean of the features with respect to every parameter. Existing
files are not written again.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from differences import FLOOR, gradient_difference
from references import (
    COMPARED_FEATURES,
    FEATURE_SIZES,
    WITH_GRADIENTS,
    feature_strides,
    feature_weights,
    gain_of,
    image,
    tensor,
)
from torch import nn
from torch_double import as_input


def build(name: str, output_stride: int) -> nn.Module:
    """Returns a reference encoder with the weights of `references.tensor`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in smp.encoders.encoders:
            network = smp.encoders.get_encoder(name, weights=None, output_stride=output_stride)
        else:
            options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
            network = timm.create_model(name, features_only=True, **options)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    gain = gain_of(name)
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, gain)) for name, shape in shapes.items()})
    return network.double().eval()


def features_of(network: nn.Module, size: tuple[int, int]) -> list[torch.Tensor]:
    """Returns the features at 1/2, 1/4, ... of an image of this size."""
    features = network(as_input(image(size)).to(next(network.parameters()).dtype))
    return features[-5:]


def gradients_of(network: nn.Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Returns the gradient of the weighted mean of the features with respect to every parameter, by its name."""
    features = features_of(network, size)
    weights = [feature_weights(tuple(f.permute(0, 2, 3, 1).shape)).transpose(0, 3, 1, 2).copy() for f in features]
    sum((f * torch.from_numpy(w)).mean() for f, w in zip(features, weights, strict=True)).backward()
    return {key: p.grad.numpy() for key, p in network.named_parameters() if p.grad is not None}


def measure(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays that are compared."""
    result = {}
    for stride in feature_strides(name):
        network = build(name, stride)
        with torch.no_grad():
            for height, width in FEATURE_SIZES:
                for level, feature in enumerate(features_of(network, (height, width)), 1):
                    result[f"{stride}/{height}x{width}/{level}"] = feature.numpy().transpose(0, 2, 3, 1)
    network = build(name, 32)
    result["names"] = np.array("\n".join(network.state_dict()))
    result["shapes"] = np.array(json.dumps([list(value.shape) for value in network.state_dict().values()]))
    if name in WITH_GRADIENTS:
        gradients = gradients_of(network, FEATURE_SIZES[0])
        single = gradients_of(build(name, 32).float(), FEATURE_SIZES[0])
        result["float32"] = np.array(gradient_difference(single, gradients, FLOOR)[0])
        result |= {f"gradient/{key}": value for key, value in gradients.items()}
    return result


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", metavar="NAME")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in flags.names or COMPARED_FEATURES:
        path = flags.out / f"{name}.npz"
        if not path.exists():
            np.savez(path, **measure(name))
            print(name, flush=True)


if __name__ == "__main__":
    main()
