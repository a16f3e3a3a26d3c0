"""Small networks of every architecture, and a table of how exactly each format reproduces them.

`python tests/exported_networks.py [NAME ...]` prints the table of docs/exporting.md.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.deploy.export_formats import ExportOptions
from flaxseg.deploy.folder import export_network
from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import ExportError
from flaxseg.inference.description import ModelDescription, installed_versions, resolved_options
from flaxseg.models import build_model

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"encoder": "resnet18", "decoder_channels": (32, 16, 16, 8, 8)},
    "unetplusplus": {"encoder": "resnet18", "decoder_channels": (32, 16, 16, 8, 8)},
    "manet": {"encoder": "resnet18", "decoder_channels": (32, 16, 16, 8, 8)},
    "linknet": {"encoder": "resnet18"},
    "fpn": {"encoder": "resnet18", "pyramid_channels": 32, "segmentation_channels": 32},
    "deeplabv3": {"encoder": "resnet18", "decoder_channels": 32},
    "deeplabv3plus": {"encoder": "mobilenet_v2", "decoder_channels": 32},
    "pspnet": {"encoder": "resnet18", "decoder_channels": 32},
    "pan": {"encoder": "resnet18"},
    "upernet": {"encoder": "resnet18", "decoder_channels": 32},
    "segformer": {"encoder": "mit_b0", "decoder_channels": 32},
    "dpt": {"encoder": "resnet18", "fusion_channels": 32},
    "eomt": {"encoder": "vit_small_patch16_dinov3", "queries": 10, "blocks": 2},
    "fcn": {"encoder": "resnet18", "decoder_channels": 32},
    "lraspp": {"encoder": "mobilenet_v2", "decoder_channels": 32},
    "linear": {"encoder": "vit_small_patch14_reg4_dinov2"},
    "mask2former": {"encoder": "resnet18", "decoder_channels": 32, "queries": 8, "pixel_layers": 1, "query_layers": 2},
    "fcn8s": {"encoder": "vgg11_bn", "width": 32},
    "plain_unet": {"width": 8},
    "attention_unet": {"width": 8},
    "resunet": {"width": 8},
    "unet_mobilenet": {"decoder_channels": (32, 32, 16, 16)},
}
"""Options of each entry of MODELS, for a network that exports quickly."""

ENCODERS = (
    "convnext_tiny",
    "efficientnet_b0",
    "efficientnet_lite0",
    "mit_b0",
    "mobilenet_v2",
    "vgg11",
    "resnext50_32x4d",
    "se_resnext50_32x4d",
    "resnest50d",
    "regnety_016",
    "densenet121",
    "mobilenetv3_large_100",
    "tf_efficientnetv2_s",
    "hrnet_w18",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
)
"""An encoder of each family, for the U-Net."""

OF_ONE_SIZE = {"mask2former": ("onnx",), "swin_tiny_patch4_window7_224": ("onnx",)}
"""Networks and encoders whose files take images of one size, in these formats."""


def trained(name: str, *, image_size: tuple[int, int] = (64, 96), num_classes: int = 4, **options: Any) -> SavedModel:
    """Returns a network with random weights and batch statistics."""
    model = build_model(name, num_classes=num_classes, **options)
    init = jax.jit(lambda key, image: model.init(key, image, train=False))
    variables = jax.tree.map(np.asarray, dict(init(jax.random.key(0), jnp.zeros((1, *image_size, 3)))))
    variables = as_if_trained(variables)
    description = ModelDescription(
        name=name,
        options=resolved_options(name, options),
        num_classes=num_classes,
        channels=3,
        image_size=image_size,
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        palette=tuple((index, 2 * index, 255 - index) for index in range(num_classes)),
        mean=model.mean,
        std=model.std,
        versions=installed_versions(),
    )
    return SavedModel("network", description, description.build(), variables)


def as_if_trained(variables: Any) -> Any:
    """Returns variables without zeros and ones, which would hide a mistake.

    Scales below 1 keep deep networks from magnifying rounding errors, up to a million times.
    """
    rng = np.random.default_rng(0)

    def changed(path: Any, leaf: Any) -> np.ndarray:
        lowest, highest = (0.6, 0.8) if path[-1].key == "scale" else (0.9, 1.1)
        return np.asarray(leaf * rng.uniform(lowest, highest, leaf.shape), np.float32)

    def shifted(leaf: Any) -> np.ndarray:
        return np.asarray(leaf + rng.uniform(0.0, 0.3, leaf.shape), np.float32)

    found = {**variables, "params": jax.tree_util.tree_map_with_path(changed, variables["params"])}
    if "batch_stats" in variables:
        found["batch_stats"] = jax.tree.map(shifted, variables["batch_stats"])
    return found


class DependsOnTheSize(nn.Module):
    """A network whose output is another one for images that are higher than wide."""

    num_classes: int
    dtype: Any = jnp.float32
    mean: float = 127.5
    std: float = 127.5
    stride: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.num_classes, name="head")(x if x.shape[1] > x.shape[2] else -x)


def rows(name: str, options: dict[str, Any], image_size: tuple[int, int]) -> list[str]:
    """Returns the rows of a network in the table."""
    network, found = trained(name, image_size=image_size, **options), []
    for kind in ("stablehlo", "onnx"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                report = export_network(network, Path(folder) / "out", ExportOptions((kind,), images=5))
            except ExportError as error:
                found.append(f"| {name} | {options.get('encoder', '')} | {kind} | {error} | | |")
                continue
        entry = report["formats"][kind]
        relative = entry["largest_difference"] / entry["largest_logit"]
        pixels = f"{entry['differing_pixels']} of {entry['pixels']:,}"
        found.append(
            f"| {name} | {options.get('encoder', '')} | {kind} | {entry['image_size']} | {relative:.1e} | {pixels} |"
        )
    return found


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print("| network | encoder | format | image sizes | difference / largest logit | pixels that differ |")
    print("| --- | --- | --- | --- | --- | --- |")
    cases = [(name, SMALL[name]) for name in SMALL]
    cases += [("unet", {"encoder": encoder, "decoder_channels": (32, 16, 16, 8, 8)}) for encoder in ENCODERS]
    for name, options in cases:
        if not sys.argv[1:] or name in sys.argv[1:] or options.get("encoder") in sys.argv[1:]:
            for row in rows(name, options, (64, 96)):
                print(row, flush=True)
