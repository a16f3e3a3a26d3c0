"""Segmentation networks of torchvision whose files are opened and compared; requires numpy only."""

import numpy as np
from references import image

IMAGE_SIZES = ((64, 96), (128, 80))
"""Height and width of the images."""

CASES = {
    "fcn_resnet50": {"aux_loss": True},
    "fcn_resnet101": {"aux_loss": False},
    "deeplabv3_resnet50": {"aux_loss": False},
    "deeplabv3_resnet101": {"aux_loss": True},
    "deeplabv3_mobilenet_v3_large": {"aux_loss": True},
    "lraspp_mobilenet_v3_large": {},
}
"""For each network, its options."""

GOLDEN = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
"""Networks that the tests compare, too."""

NUM_CLASSES = 21


def images_of(size: tuple[int, int]) -> np.ndarray:
    """Returns normalized images, float32[2, H, W, 3]."""
    return image(size)


def labels(size: tuple[int, int]) -> np.ndarray:
    """Returns the classes of pixels that the loss is computed with, int64[2, H, W], most of which are the last."""
    found = np.full((2, *size), NUM_CLASSES - 1)
    found[:, : size[0] // 4] = 0
    return found
