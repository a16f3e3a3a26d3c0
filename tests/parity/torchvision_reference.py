"""Saves segmentation networks of torchvision, their logits and their gradients; requires PyTorch.

    python tests/parity/torchvision_reference.py --out DIR [fcn_resnet50 ...]

Each case of `torchvision_cases` is a file CASE.pth, and a file CASE.npz with the logits of two images of each size, and
with the gradients of the cross-entropy at the first size in inference mode, in float64. Existing files are not written
again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from references import tensor
from torch import nn
from torchvision.models import segmentation
from torchvision_cases import CASES, IMAGE_SIZES, NUM_CLASSES, images_of, labels


def build(case: str) -> nn.Module:
    """Returns a network with the weights of `references.tensor`."""
    network = getattr(segmentation, case)(weights=None, weights_backbone=None, num_classes=NUM_CLASSES, **CASES[case])
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, 1.0)) for name, shape in shapes.items()})
    return network.eval()


def measure(network: nn.Module) -> dict[str, np.ndarray]:
    """Returns the arrays that are compared."""
    state = network.state_dict()
    described = {
        "names": np.array("\n".join(state)),
        "shapes": np.array(json.dumps([list(value.shape) for value in state.values()])),
    }
    images = {size: torch.from_numpy(images_of(size).transpose(0, 3, 1, 2).copy()) for size in IMAGE_SIZES}
    with torch.no_grad():
        logits = {"{}x{}".format(*size): network(x)["out"] for size, x in images.items()}
    found = {name: value.numpy().transpose(0, 2, 3, 1) for name, value in logits.items()}
    size = IMAGE_SIZES[0]
    doubles = network.double()(images[size].double())["out"]
    nn.functional.cross_entropy(doubles, torch.from_numpy(labels(size))).backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return described | found | {f"gradient/{name}": value.numpy() for name, value in gradients.items()}


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    for case in flags.cases or CASES:
        target = flags.out / f"{case}.npz"
        if not target.exists():
            network = build(case)
            torch.save(network.state_dict(), target.with_suffix(".pth"))
            np.savez(target, **measure(network))
            print(case, flush=True)


if __name__ == "__main__":
    main()
