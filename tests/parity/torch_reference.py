"""Writes results of segmentation_models_pytorch's networks as references; requires PyTorch.

    python tests/parity/torch_reference.py --out DIR [unet:resnet34 fpn:resnet50 ...]

Without names, it writes all `references.CASES`. Each is a file ARCHITECTURE-ENCODER.npz with the names and shapes of
the network's tensors, the logits of both images in inference mode, and the running statistics after one forward pass in
training mode without dropout; and, for `references.GRADIENTS`, with what `torch_double.double_results` returns.
Existing files are not written again.
"""

import argparse
import functools
import json
import warnings
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from differences import difference
from references import (
    CASES,
    GRADIENTS,
    NUM_CLASSES,
    REFERENCE_ARCHITECTURES,
    gain_of,
    image,
    padded,
    reference_encoder,
    sizes_of,
    tensor,
    timm_options,
    train_batch_of,
)
from torch import nn
from torch_double import Outputs, double_results, without_dropout


def build(architecture: str, encoder: str) -> nn.Module:
    """Returns a reference network with the weights of `references.tensor`."""
    kind = getattr(smp, REFERENCE_ARCHITECTURES[architecture])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = timm_options(encoder)
        network = kind(reference_encoder(encoder), encoder_weights=None, classes=NUM_CLASSES, **options)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    gain = gain_of(encoder)
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, gain)) for name, shape in shapes.items()})
    without_dropout(network)
    return network


def given(network: nn.Module, size: tuple[int, int], batch: int = 2) -> torch.Tensor:
    """Returns images of a size, padded to multiples of the network's stride."""
    return torch.from_numpy(
        padded(image(size, batch=batch), network.encoder.output_stride).transpose(0, 3, 1, 2).copy()
    )


def measure(
    network: nn.Module, sizes: tuple[tuple[int, int], tuple[int, int]], train_batch: int
) -> dict[str, np.ndarray]:
    """Returns the arrays that are compared."""
    names = network.state_dict()
    result = {
        "names": np.array("\n".join(names)),
        "shapes": np.array(json.dumps([list(t.shape) for t in names.values()])),
    }
    network.eval()
    with torch.no_grad():
        for height, width in sizes:
            logits = network(given(network, (height, width))).numpy().transpose(0, 2, 3, 1)[:, :height, :width]
            result[f"logits_{height}x{width}"] = logits
        network.train()
        result["train_logits"] = network(given(network, sizes[0], train_batch)).numpy().transpose(0, 2, 3, 1)
    for name, value in network.state_dict().items():
        if "running_" in name:
            result[f"after/{name}"] = value.numpy().astype(np.float32)
    return result


def statistics_error(network: nn.Module, x: torch.Tensor, found: dict[str, np.ndarray]) -> float:
    """Returns the largest difference of running statistics that a network found in float32 from those in float64."""
    network = network.double().train()
    with torch.no_grad():
        network(x.double())
    exact = {name: value.numpy() for name, value in network.state_dict().items() if "running_" in name}
    return max((difference(found[f"after/{name}"], value) for name, value in exact.items()), default=0.0)


def outputs(network: nn.Module, x: torch.Tensor) -> Outputs:
    """Returns the logits of the only head."""
    return [network(x)], []


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("cases", nargs="*", metavar="ARCHITECTURE:ENCODER")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for case in flags.cases or CASES:
        architecture, encoder = case.split(":")
        path = flags.out / f"{architecture}-{encoder}.npz"
        if not path.exists():
            network, sizes = build(architecture, encoder), sizes_of(architecture, encoder)
            batch = train_batch_of(encoder)
            result = measure(network, sizes, batch)
            # Of a network whose running statistics have not been updated.
            again, x = build(architecture, encoder), given(network, sizes[0], batch)
            result["float32 statistics"] = np.array(statistics_error(again, x, result))
            if case in GRADIENTS:
                pad = functools.partial(padded, stride=network.encoder.output_stride)
                # Not the network whose running statistics have been updated.
                result |= double_results(
                    build(architecture, encoder), outputs, sizes=sizes, train_batch=min(batch, 4), pad=pad
                )
            np.savez_compressed(path, **result)
            print(case, flush=True)


if __name__ == "__main__":
    main()
