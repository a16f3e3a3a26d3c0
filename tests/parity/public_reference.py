"""Saves networks of segmentation_models_pytorch and transformers, and their logits; requires PyTorch.

    python tests/parity/public_reference.py --out DIR [unet fpn_cat ...]

Each case of `public_cases` is a folder that the library's own `save_pretrained` writes, and a file CASE.npz with the
logits of two images at the image's size. Existing files are not written again.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from public_cases import DEFAULTS, SMP_CASES, TRANSFORMERS_CASES, sizes_of
from references import image, tensor
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    BeitConfig,
    BeitForSemanticSegmentation,
    DPTConfig,
    DPTForSemanticSegmentation,
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)


def build(case: str) -> tuple[nn.Module, int]:
    """Returns a network with the weights of `references.tensor`, and its number of channels."""
    if case in SMP_CASES:
        kind, options = SMP_CASES[case]
        network = getattr(smp, kind)(**(DEFAULTS | options))
        channels = options.get("in_channels", 3)
    else:
        kind, options, backbone = TRANSFORMERS_CASES[case]
        channels = (options | backbone).get("num_channels", 3)
        if kind == "segformer":
            network = SegformerForSemanticSegmentation(SegformerConfig(**options))
        elif kind == "beit":
            network = BeitForSemanticSegmentation(BeitConfig(**options))
        elif kind == "dpt":
            network = DPTForSemanticSegmentation(DPTConfig(**options))
        elif kind == "eomt":
            network = EomtForUniversalSegmentation(EomtConfig(**options))
        elif kind == "mask2former":
            config = Mask2FormerConfig(backbone_config=CONFIG_MAPPING[backbone["model_type"]](**backbone), **options)
            network = Mask2FormerForUniversalSegmentation(config)
        else:
            config = UperNetConfig(backbone_config=CONFIG_MAPPING[backbone["model_type"]](**backbone), **options)
            network = UperNetForSemanticSegmentation(config)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, 1.0)) for name, shape in shapes.items()})
    if hasattr(network, "attn_mask_probs"):
        # As at the end of training: attention is not masked.
        network.attn_mask_probs.zero_()
    return network.eval(), channels


def logits_of(network: nn.Module, size: tuple[int, int], channels: int) -> np.ndarray:
    """Returns the logits of two images, float32[2, H, W, classes], or the one logit of a network with one class."""
    x = torch.from_numpy(image(size, channels).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        found = network(x)
    if hasattr(found, "masks_queries_logits"):
        return scores_of(found, size).clamp(min=1e-10).log().numpy().transpose(0, 2, 3, 1)
    found = found.logits if hasattr(found, "logits") else found[0] if isinstance(found, tuple) else found
    if found.shape[1] == 1:
        found = torch.logit(found.double()).float()
    found = nn.functional.interpolate(found, size=size, mode="bilinear", align_corners=False)
    return found.numpy().transpose(0, 2, 3, 1)


def scores_of(found: Any, size: tuple[int, int]) -> torch.Tensor:
    """Returns the scores of classes, [B, classes, H, W], as transformers computes them from queries.

    Its function resizes masks to 384 x 384 pixels, the size of the images that its networks expect.
    """
    masks = nn.functional.interpolate(found.masks_queries_logits, size=size, mode="bilinear", align_corners=False)
    classes = found.class_queries_logits.softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())


def main() -> None:
    """Writes the folders and the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    for case in flags.cases or (*SMP_CASES, *TRANSFORMERS_CASES):
        target = flags.out / f"{case}.npz"
        if target.exists():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network, channels = build(case)
            network.save_pretrained(flags.out / case)
        found = {f"{h}x{w}": logits_of(network, (h, w), channels) for h, w in sizes_of(case)}
        np.savez(target, **found)
        print(case, flush=True)


if __name__ == "__main__":
    main()
