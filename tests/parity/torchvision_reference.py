"""Saves segmentation networks of torchvision, their logits and their gradients; requires PyTorch.

    python tests/parity/torchvision_reference.py --out DIR [fcn_resnet50 ...]

Each case of `torchvision_cases` is a file CASE.pth, and a file CASE.npz with the names and shapes of its tensors, and
what `torch_double.double_results` returns. Existing files are not written again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from references import tensor
from torch import nn
from torch_double import Outputs, double_results
from torchvision.models import segmentation
from torchvision_cases import CASES, IMAGE_SIZES, NUM_CLASSES, WITHOUT_AUXILIARY_HEAD


def build(case: str) -> nn.Module:
    """Returns a network with the weights of `references.tensor`."""
    network = getattr(segmentation, case)(weights=None, weights_backbone=None, num_classes=NUM_CLASSES, **CASES[case])
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, 1.0)) for name, shape in shapes.items()})
    return network.eval()


def main_output(network: nn.Module, x: torch.Tensor) -> Outputs:
    """Returns the logits of the main head."""
    return [network(x)["out"]], []


def all_outputs(network: nn.Module, x: torch.Tensor) -> Outputs:
    """Returns the logits of the main head and, if there is one, of the auxiliary head."""
    found = network(x)
    return [found[name] for name in ("out", "aux") if name in found], []


def add_up_biases(network: nn.Module) -> None:
    """Adds up the biases of LR-ASPP's heads in float32, as flaxseg does, so that their rounding is not compared."""
    if isinstance(network, segmentation.LRASPP):
        low, high = (network.classifier.get_submodule(f"{name}_classifier").bias.data for name in ("low", "high"))
        low += high
        high.zero_()


def of_one_bias(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns gradients whose sum over both heads of LR-ASPP is that of the one bias that flaxseg has for them."""
    heads = ("low_classifier.bias", "high_classifier.bias")
    return {name: value / 2 if name.endswith(heads) else value for name, value in gradients.items()}


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
            state = network.state_dict()
            torch.save(state, target.with_suffix(".pth"))
            shapes = json.dumps([list(value.shape) for value in state.values()])
            outputs = main_output if case in WITHOUT_AUXILIARY_HEAD else all_outputs
            add_up_biases(network)
            found = double_results(network, outputs, sizes=IMAGE_SIZES, as_saved=of_one_bias)
            np.savez_compressed(target, names=np.array("\n".join(state)), shapes=np.array(shapes), **found)
            print(case, flush=True)


if __name__ == "__main__":
    main()
