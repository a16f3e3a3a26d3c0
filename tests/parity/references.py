"""Weights and images for both flaxseg's networks and their references; requires numpy only."""

import zlib

import numpy as np

SIZES = ((64, 96), (33, 47))
"""Height and width of the images; the second size is not a multiple of any stride, and is padded as flaxseg does."""

SIZES_OF = {"pan": ((128, 192), (129, 143))}
"""Sizes for individual architectures: PAN's last feature has to be at least 8x8."""

NUM_CLASSES = 3

REFERENCE_ARCHITECTURES = {
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "fpn": "FPN",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "pspnet": "PSPNet",
    "linknet": "Linknet",
    "manet": "MAnet",
    "pan": "PAN",
    "upernet": "UPerNet",
    "segformer": "Segformer",
}
"""The classes of segmentation_models_pytorch, by flaxseg's names."""


COMPARED_FEATURES = (
    "se_resnext50_32x4d",
    "seresnext50_32x4d",
    "resnest50d",
    "regnety_016",
    "regnety_032",
    "densenet121",
    "densenet169",
    "mobilenetv3_large_100",
    "tf_efficientnetv2_s",
    "tf_efficientnetv2_m",
    "hrnet_w18",
    "hrnet_w48",
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")),
    *(f"swin_{size}_patch4_window12_384" for size in ("base", "large")),
)
"""Encoders whose features are compared, too."""

BEITS = {
    "beit_base_patch16_224": ("beit_base_patch16_224", 224, (3, 5, 7, 11)),
    "beit_base_patch16_640": ("beit_base_patch16_224", 640, (1, 3, 5, 9)),
    "beit_large_patch16_224": ("beit_large_patch16_224", 224, (7, 11, 15, 23)),
    "beit_large_patch16_640": ("beit_large_patch16_224", 640, (5, 9, 13, 21)),
}
"""For each BEiT, of which only features are compared: the name in timm, the side of the image, and the blocks, counted
from 0, whose outputs are used. Its feature pyramid is not part of timm."""

ENCODERS = (
    *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
    "resnext50_32x4d",
    "resnext101_32x8d",
    *(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
    "mobilenet_v2",
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"efficientnet_lite{size}" for size in range(5)),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"mit_b{size}" for size in range(6)),
    *COMPARED_FEATURES,
)

OF_TORCHVISION = ("mobilenet_v3_large",)
"""Encoders that are compared as parts of the networks of `torchvision_cases`."""

VISION_TRANSFORMERS = (
    "vit_base_patch16_224",
    "vit_base_patch16_384",
    "vit_large_patch16_384",
    *(f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large")),
    *(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large")),
    *(f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large")),
)
"""Encoders of timm that no U-Net of segmentation_models_pytorch has; their features are compared."""

SMALL_TRANSFORMERS = {
    "vit": {"img_size": 48},
    "dinov2": {"img_size": 56, "patch_size": 14, "init_values": 1e-5},
    "dinov2_registers": {
        "img_size": 42, "patch_size": 14, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True,
    },
    "dinov3": {
        "qkv_bias": False, "init_values": 1e-5, "rope_type": "dinov3", "rope_temperature": 100,
        "rope_rotate_half": True, "use_rot_pos_emb": True, "use_abs_pos_emb": False, "num_reg_tokens": 4,
        "use_fc_norm": False,
    },
}  # fmt: skip
"""Options of timm's `VisionTransformer`, or `Eva` for DINOv3, for networks of four blocks, 32 channels, two heads."""

SMALL_SIZES = {"vit": (80, 64), "dinov2": (42, 84), "dinov2_registers": (28, 98), "dinov3": (32, 80)}
"""Sizes of the images for these, whose grids are larger and smaller than those that position embeddings belong to."""

WITH_GRADIENTS = (
    "se_resnext50_32x4d",
    "resnest50d",
    "regnety_016",
    "densenet121",
    "mobilenetv3_large_100",
    "tf_efficientnetv2_s",
    "hrnet_w18",
    "vit_base_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "swin_tiny_patch4_window7_224",
    "beit_base_patch16_224",
)
"""Encoders whose gradients are compared, too: one of each family."""

UNDILATED = ("densenet", "hrnet", "vit_", "swin", "beit")
"""Families of encoders that cannot be dilated."""

FEATURE_SIZES = ((64, 96), (96, 160))
"""Height and width of the images for which features are compared; see `feature_sizes`."""

WHOLE_WINDOWS = {"window7_224": 224, "window12_384": 384}
"""For the endings of Swin's names, the side of an image whose features all consist of whole windows. timm shifts
features before it pads them to whole windows, and flaxseg afterwards, as transformers and the authors' segmentation
code do."""

OTHERS = ("resnet18", "resnext50_32x4d", "mobilenet_v2")
"""Encoders that the architectures are compared with."""

OTHERS_OF = {
    "manet": ("resnet18", "mit_b0", "mobilenet_v2"),
    "segformer": ("resnet18", "mit_b0", "convnext_tiny"),
    "upernet": ("resnet18", "mit_b0", "convnext_tiny"),
}
"""Other encoders for individual architectures. With features as large as a bottleneck ResNet's with these weights,
MA-Net's gates amplify float32's rounding errors to 1e-4, in the reference as in flaxseg."""

CASES = [f"unet:{encoder}" for encoder in ENCODERS] + [
    f"{architecture}:{encoder}"
    for architecture in REFERENCE_ARCHITECTURES
    if architecture != "unet"
    for encoder in OTHERS_OF.get(architecture, OTHERS)
]


GOLDEN = (
    "unet:resnext50_32x4d",
    "unet:se_resnext50_32x4d",
    "unet:vgg11_bn",
    "unet:mobilenet_v2",
    "unet:efficientnet_b0",
    "unet:efficientnet_lite0",
    "unet:convnext_tiny",
    "unet:mit_b0",
    "unet:resnest50d",
    "unet:regnety_016",
    "unet:densenet121",
    "unet:mobilenetv3_large_100",
    "unet:tf_efficientnetv2_s",
    "unet:hrnet_w18",
    "unet:swin_tiny_patch4_window7_224",
    "segformer:mit_b0",
    *(f"{architecture}:resnet18" for architecture in REFERENCE_ARCHITECTURES if architecture != "segformer"),
)
"""Cases that the ordinary tests compare, too: every architecture, and every family of encoders."""


GRADIENTS = (
    *GOLDEN,
    "unet:resnet50",
    "unet:vgg11",
    "unet:efficientnet_lite1",
    "unet:efficientnet_b1",
    "unet:seresnext50_32x4d",
    *(
        f"{architecture}:{encoder}"
        for architecture in REFERENCE_ARCHITECTURES
        if architecture != "unet"
        for encoder in OTHERS_OF.get(architecture, OTHERS)
        if encoder != "resnext50_32x4d"
    ),
)
"""Cases whose logits in float64 and gradients are compared, too: larger encoders consist of the same modules."""


SQUEEZING = ("se_resnext", "seresnext", "resnest", "regnet", "mobilenetv3", "tf_efficientnetv2")
"""Families of encoders with squeeze-and-excitation in residual blocks."""

OF_TIMM = ("convnext", "seresnext", "resnest", "regnet", "mobilenetv3", "tf_efficientnetv2", "hrnet", "swin")
"""Families of encoders that segmentation_models_pytorch takes from timm."""


def sizes_of(architecture: str, encoder: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the two sizes (height, width) of the images that a network is compared on."""
    if side := _whole_windows(encoder):
        return (side, side), (side - 27, side - 5)
    return SIZES_OF.get(architecture, SIZES)


def feature_sizes(encoder: str) -> tuple[tuple[int, int], ...]:
    """Returns the sizes (height, width) of the images for which an encoder's features are compared."""
    if encoder in BEITS:
        side = BEITS[encoder][1]
        return ((side, side),)
    if side := _whole_windows(encoder):
        return (side, side), (side, 2 * side)
    if "patch14" in encoder:
        return tuple((height // 16 * 14, width // 16 * 14) for height, width in FEATURE_SIZES)
    return FEATURE_SIZES


def timm_options(encoder: str) -> dict[str, bool]:
    """Returns the options of timm with which an encoder takes images of any size, and computes what flaxseg does."""
    return {"strict_img_size": False, "always_partition": True} if _whole_windows(encoder) else {}


def _whole_windows(encoder: str) -> int:
    return next((side for ending, side in WHOLE_WINDOWS.items() if encoder.endswith(ending)), 0)


def train_batch_of(encoder: str) -> int:
    """Returns the number of images in training mode.

    ResNeSt normalizes means over images by the batch: of two images, that would be mostly the sign of a difference.
    """
    return 16 if encoder.startswith("resnest") else 2


def reference_encoder(name: str) -> str:
    """Returns the name of an encoder in segmentation_models_pytorch."""
    if name.startswith("efficientnet_lite"):
        return f"tu-tf_{name}"
    if name.startswith("efficientnet_b"):
        return name.replace("_", "-")
    return f"tu-{name}" if name.startswith(OF_TIMM) else name


def image(size: tuple[int, int], channels: int = 3, batch: int = 2) -> np.ndarray:
    """Returns normalized images, float32[B, H, W, C]."""
    return np.random.default_rng(sum(size)).normal(size=(batch, *size, channels)).astype(np.float32)


def bright_image(size: tuple[int, int], channels: int = 3, batch: int = 2, number: int = 0) -> np.ndarray:
    """Returns images for gradients, float32[B, H, W, C], other ones for each `number`; see `label`."""
    return image(size, channels, batch) * 0.9**number + 1


def label(size: tuple[int, int], num_classes: int, batch: int = 2) -> np.ndarray:
    """Returns classes of pixels, int32[B, H, W], in areas: with the last class mostly.

    Gradients of pixels then mostly have the same sign, as do the values of `bright_image`. Where they cancel each
    other, a single unit whose ReLU is on in float32 and off in float64 can change a sum by 1e-3.
    """
    found = np.full((batch, *size), max(num_classes - 1, 1), np.int32)
    found[:, :, : size[1] // 8] = min(num_classes - 1, 1)
    found[:, : size[0] // 4] = 0
    return found


def image_label(num_classes: int, batch: int = 2) -> np.ndarray:
    """Returns classes of whole images, int32[B]."""
    return (np.arange(batch) % num_classes).astype(np.int32)


def padded(image: np.ndarray, stride: int) -> np.ndarray:
    """Returns the image with zeros at the bottom and right up to multiples of `stride`."""
    return np.pad(image, ((0, 0), (0, -image.shape[1] % stride), (0, -image.shape[2] % stride), (0, 0)))


def gain_of(encoder: str) -> float:
    """Returns the variance, times the fan-in, of the kernels that `tensor` draws for an encoder.

    2 keeps the variance of activations through ReLUs. Inverted bottlenecks end without one and are added up: in the
    fifty blocks of an EfficientNet-B7, activations would exceed the precision of float32. Where blocks squeeze and
    excite, sigmoids of large values would amplify rounding errors, as would the softmax of attention.
    """
    return 1.0 if encoder.startswith(("efficientnet", "vit_", "swin", "beit", *SQUEEZING)) else 2.0


def feature_strides(encoder: str) -> tuple[int, ...]:
    """Returns the output strides at which an encoder's features are compared."""
    return (32,) if encoder.startswith(UNDILATED) else (32, 16, 8)


def feature_weights(shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights of a feature in the mean whose gradients are compared, float32 of this shape; see `label`."""
    return np.random.default_rng(shape[-1]).uniform(0.2, 1.8, size=shape).astype(np.float32)


def tensor(name: str, shape: tuple[int, ...], gain: float = 2.0) -> np.ndarray:
    """Returns random values of a PyTorch tensor, with its name as the seed."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf in ("bias", "running_mean"):
        return draw.normal(0, 0.1, shape).astype(np.float32)
    if leaf in ("cls_token", "reg_token", "pos_embed"):
        return draw.normal(0, 0.5, shape).astype(np.float32)
    if len(shape) <= 1 or leaf == "gamma":
        return draw.uniform(0.6, 1.4, shape).astype(np.float32)
    return draw.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape).astype(np.float32)
