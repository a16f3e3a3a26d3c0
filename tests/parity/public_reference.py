"""Saves networks of other libraries, and their logits and gradients; requires PyTorch.

    python tests/parity/public_reference.py --out DIR [unet fpn_cat ...]

Each case of `public_cases` is a folder that the library's own `save_pretrained` writes, and a file CASE.npz with what
`torch_double.double_results` returns. Existing files are not written again.
"""

import argparse
import functools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from public_cases import DEFAULTS, SMP_CASES, TRANSFORMERS_CASES, UNTRAINED, sizes_of
from references import tensor
from safetensors.numpy import load_file
from torch import nn
from torch_double import Outputs, double_results
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


def query_logits(found: Any, size: tuple[int, int]) -> torch.Tensor:
    """Returns the logarithms of what transformers' `post_process_semantic_segmentation` takes the largest of."""
    masks = nn.functional.interpolate(found.masks_queries_logits, size=size, mode="bilinear")
    classes = found.class_queries_logits.softmax(dim=-1)[..., :-1]
    return torch.log(torch.einsum("bqc, bqhw -> bchw", classes, masks.sigmoid()).clamp(min=1e-10))


def outputs(network: nn.Module, x: torch.Tensor) -> Outputs:
    """Returns the logits of all heads; flaxseg does not read the auxiliary head of DPT."""
    auxiliary: list[torch.Tensor] = []
    has_auxiliary = getattr(network, "auxiliary_head", None) is not None
    if has_auxiliary and not isinstance(network, DPTForSemanticSegmentation):
        network.auxiliary_head.register_forward_hook(lambda module, given, logits: auxiliary.append(logits))
    found, of_images = network(x), []
    if isinstance(found, tuple):
        found, *of_images = found
    size = x.shape[2], x.shape[3]
    if hasattr(found, "masks_queries_logits"):
        return [query_logits(found, size)], of_images
    maps = [found.logits if hasattr(found, "logits") else found, *auxiliary]
    return [
        nn.functional.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps
    ], of_images


def as_saved(network: nn.Module, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns values of a network's parameters by the names under which its library saves them, which can differ."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        found = load_file(Path(folder, "model.safetensors"))
    network.load_state_dict(kept)
    return found


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
        if case in SMP_CASES:
            # Logits instead of the probabilities of an activation.
            network.segmentation_head[2] = nn.Identity()
        train_batch = None if case in UNTRAINED else 2
        np.savez_compressed(
            target,
            **double_results(
                network,
                outputs,
                sizes=sizes_of(case),
                channels=channels,
                train_batch=train_batch,
                as_saved=functools.partial(as_saved, network),
            ),
        )
        print(case, flush=True)


if __name__ == "__main__":
    main()
