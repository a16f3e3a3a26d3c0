"""Segmentation networks of torchvision whose files are opened and compared."""

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

WITHOUT_AUXILIARY_HEAD = ("deeplabv3_mobilenet_v3_large",)
"""Networks whose auxiliary head is not loaded, and therefore not compared."""

GOLDEN = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
"""Networks that the tests compare, too."""

NUM_CLASSES = 21
