"""Writes what the ordinary tests compare of some networks of `public_cases`; requires PyTorch and transformers.

    python tests/parity/public_golden.py --out tests/models/golden_public

Each of `public_cases.GOLDEN` is a file CASE.npz with the configuration, the names and shapes of the tensors, whose
values are those of `references.tensor`, and the logits of images of the first size at every eighth pixel.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from public_cases import GOLDEN, sizes_of
from public_reference import build, scores_of
from references import image
from torch import nn


def measure(case: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a file."""
    network, channels = build(case)
    state, size = network.state_dict(), sizes_of(case)[0]
    with torch.no_grad():
        found = network(torch.from_numpy(image(size, channels).transpose(0, 3, 1, 2).copy()))
    if hasattr(found, "masks_queries_logits"):
        logits = scores_of(found, size).clamp(min=1e-10).log()
    else:
        logits = nn.functional.interpolate(found.logits, size=size, mode="bilinear", align_corners=False)
    config = network.config.to_dict() | {"architectures": [type(network).__name__]}
    return {
        "config": np.array(json.dumps(config, sort_keys=True)),
        "names": np.array("\n".join(state)),
        "shapes": np.array(json.dumps([list(value.shape) for value in state.values()])),
        "logits": logits.numpy().transpose(0, 2, 3, 1)[:, ::8, ::8],
    }


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    for case in GOLDEN:
        np.savez_compressed(flags.out / f"{case}.npz", **measure(case))


if __name__ == "__main__":
    main()
