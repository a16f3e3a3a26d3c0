"""Writes small files with logits of transformers' networks for the ordinary tests; requires PyTorch.

    python tests/parity/public_golden.py --out tests/models/pretrained/transformers_layout/golden [hf_beit ...]

Each is a file CASE.npz, for a case of `GOLDEN`, with the network's configuration, the names and shapes of the tensors
that its library saves, and the logits of two images at every sixth pixel. The tensors' values are those that
`public_cases.value_of` gives them. Existing files are not written again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from public_cases import GOLDEN, sizes_of, value_of
from public_reference import build, outputs
from references import image
from safetensors.numpy import load_file, save_file


def measure(case: str) -> dict[str, np.ndarray]:
    """Returns the contents of a file."""
    network, channels = build(case)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        path = Path(folder, "model.safetensors")
        shapes = {name: value.shape for name, value in load_file(path).items()}
        save_file({name: value_of(name, shape) for name, shape in shapes.items()}, path, {"format": "pt"})
        x = torch.from_numpy(image(sizes_of(case)[0], channels).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            (logits, *_), _ = outputs(type(network).from_pretrained(folder).eval(), x)
        config = Path(folder, "config.json").read_text(encoding="utf-8")
    return {
        "config": np.array(config),
        "names": np.array("\n".join(shapes)),
        "shapes": np.array(json.dumps([list(shape) for shape in shapes.values()])),
        "logits": logits.numpy().transpose(0, 2, 3, 1)[:, ::6, ::6],
    }


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    for case in flags.cases or GOLDEN:
        target = flags.out / f"{case}.npz"
        if not target.exists():
            np.savez_compressed(target, **measure(case))
            print(case, flush=True)


if __name__ == "__main__":
    main()
