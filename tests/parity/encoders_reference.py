"""Writes features and gradients of timm's encoders, computed in float64, as references; requires PyTorch.

    python tests/parity/encoders_reference.py --out DIR [--golden FILE] [regnety_016 ...]

Without names, it writes all `references.COMPARED_FEATURES`, `VISION_TRANSFORMERS` and `BEITS`. Each is a file NAME.npz
with the names and shapes of the network's tensors, its features for images of all sizes and output strides in inference
mode, and, for `references.WITH_GRADIENTS`, the gradient of a weighted mean of the features with respect to every
parameter. Existing files are not written again. `--golden` writes the features of `references.SMALL_TRANSFORMERS` to
the file tests/models/encoders/vit_golden.npz, which the ordinary tests compare.
"""

import argparse
import functools
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from references import (
    BEITS,
    COMPARED_FEATURES,
    SMALL_SIZES,
    SMALL_TRANSFORMERS,
    VISION_TRANSFORMERS,
    WITH_GRADIENTS,
    feature_sizes,
    feature_strides,
    feature_weights,
    gain_of,
    image,
    tensor,
    timm_options,
)
from timm.layers import LayerNorm, pos_embed_sincos
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch_double import as_input


class BEiTWithPyramid(nn.Module):
    """A BEiT of timm with the feature pyramid and the names of the authors' segmentation code."""

    def __init__(self, name: str) -> None:
        super().__init__()
        of_timm, side, blocks = BEITS[name]
        self.model = timm.create_model(of_timm, features_only=True, img_size=side, out_indices=blocks)
        width = self.model.feature_info.channels()[0]

        def layer() -> nn.Module:
            return nn.ConvTranspose2d(width, width, 2, 2)

        self.fpn1 = nn.Sequential(layer(), nn.BatchNorm2d(width), nn.GELU(), layer())
        self.fpn2 = nn.Sequential(layer())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the features at 1/4, 1/8, 1/16 and 1/32."""
        first, second, third, fourth = self.model(x)
        return [self.fpn1(first), self.fpn2(second), third, nn.functional.max_pool2d(fourth, 2)]


def build(name: str, output_stride: int) -> nn.Module:
    """Returns a reference encoder with the weights of `references.tensor`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in VISION_TRANSFORMERS:
            network = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        elif name in BEITS:
            network: nn.Module = BEiTWithPyramid(name)
        elif name in smp.encoders.encoders:
            network = smp.encoders.get_encoder(name, weights=None, output_stride=output_stride)
        else:
            options: dict[str, Any] = timm_options(name)
            if output_stride < 32:
                options["output_stride"] = output_stride
            network = timm.create_model(name, features_only=True, **options)
    return with_drawn_weights(network, gain_of(name))


@contextmanager
def in_float64(network: nn.Module) -> Iterator[None]:
    """Lets a network of timm compute everything in float64.

    Without it, position embeddings are resized, and the angles of rotations computed, in float32 in any network.
    """
    grid = functools.partial(pos_embed_sincos._build_grid, dtype=torch.float64)
    with (
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(pos_embed_sincos, "_build_grid", grid),
    ):
        for module in network.modules():
            if hasattr(module, "_compute_periods"):
                module.periods = module._compute_periods(dtype=torch.float64)
        yield


def with_drawn_weights(network: nn.Module, gain: float) -> nn.Module:
    """Returns a network with the weights of `references.tensor`."""
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(tensor(name, shape, gain)) for name, shape in shapes.items()})
    return network.double().eval()


def features_of(network: nn.Module, size: tuple[int, int]) -> dict[int, torch.Tensor]:
    """Returns the features of an image of this size, [B, H, W, C], by their level.

    They are at 1/2, 1/4, ... of the image's size, with the levels 1, 2, ...; of a vision transformer, after each
    quarter of its blocks.
    """
    x = as_input(image(size)).to(next(network.parameters()).dtype)
    if hasattr(network, "forward_intermediates") and hasattr(network, "blocks"):
        indices = [len(network.blocks) * part // 4 - 1 for part in range(1, 5)]
        found = network.forward_intermediates(x, indices=indices, norm=True, intermediates_only=True)
        return {level: feature.permute(0, 2, 3, 1) for level, feature in enumerate(found, 1)}
    features = network(x)[-5:]
    if getattr(network, "output_fmt", None) != "NHWC":
        features = [feature.permute(0, 2, 3, 1) for feature in features]
    return dict(zip(range(6 - len(features), 6), features, strict=True))


def gradients_of(network: nn.Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Returns the gradient of the weighted mean of the features with respect to every parameter, by its name."""
    features = features_of(network, size).values()
    sum((f * torch.from_numpy(feature_weights(tuple(f.shape)))).mean() for f in features).backward()
    return {key: p.grad.numpy() for key, p in network.named_parameters() if p.grad is not None}


def measure(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays that are compared."""
    result = {}
    for stride in feature_strides(name):
        network = build(name, stride)
        with torch.no_grad(), in_float64(network):
            for height, width in feature_sizes(name):
                for level, feature in features_of(network, (height, width)).items():
                    result[f"{stride}/{height}x{width}/{level}"] = feature.numpy()
    network = build(name, 32)
    result["names"] = np.array("\n".join(network.state_dict()))
    result["shapes"] = np.array(json.dumps([list(value.shape) for value in network.state_dict().values()]))
    if name in WITH_GRADIENTS:
        size = feature_sizes(name)[0]
        with in_float64(network):
            gradients = gradients_of(network, size)
        result |= {f"gradient/{key}": value for key, value in gradients.items()}
    return result


def small_transformers() -> dict[str, np.ndarray]:
    """Returns the features of the small vision transformers, and the names and shapes of their tensors."""
    result = {}
    for name, options in SMALL_TRANSFORMERS.items():
        sizes: dict[str, Any] = {
            "embed_dim": 32,
            "depth": 4,
            "num_heads": 2,
            "num_classes": 0,
            "dynamic_img_size": True,
        }
        epsilon = {"norm_layer": functools.partial(LayerNorm, eps=1e-5)} if name == "dinov3" else {}
        make = Eva if name == "dinov3" else VisionTransformer
        network = with_drawn_weights(make(**{**sizes, **options, **epsilon}), 1.0)
        result[f"{name}/names"] = np.array("\n".join(network.state_dict()))
        result[f"{name}/shapes"] = np.array(json.dumps([list(value.shape) for value in network.state_dict().values()]))
        with torch.no_grad():
            for level, feature in features_of(network, SMALL_SIZES[name]).items():
                result[f"{name}/{level}"] = feature.numpy()
    return result


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if flags.golden:
        np.savez(flags.golden, **small_transformers())
    for name in flags.names or (*COMPARED_FEATURES, *VISION_TRANSFORMERS, *BEITS):
        path = flags.out / f"{name}.npz"
        if not path.exists():
            np.savez(path, **measure(name))
            print(name, flush=True)


if __name__ == "__main__":
    main()
