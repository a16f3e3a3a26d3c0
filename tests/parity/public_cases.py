"""Networks of other libraries whose saved folders are opened and compared; requires nothing."""

import numpy as np
from references import tensor

IMAGE_SIZES = ((64, 96), (160, 96))
SQUARE_SIZES = ((96, 96), (128, 128))
SIZES_OF = {
    "pan": ((128, 192), (192, 128)),
    "pan_depth4": ((128, 192), (192, 128)),
    "pan_stride32": ((256, 320), (320, 256)),
}
"""Height and width of the images; PAN's last feature has to be at least 8x8, and transformers' DPT takes squares."""

_NARROW = (64, 32, 32, 16)

SMP_CASES = {
    "unet": ("Unet", {}),
    "unet_depth3_1channel": ("Unet", {"encoder_depth": 3, "decoder_channels": (32, 16, 8), "in_channels": 1}),
    "unet_depth4_4channels_scse": (
        "Unet",
        {
            "encoder_depth": 4,
            "decoder_channels": _NARROW,
            "in_channels": 4,
            "decoder_attention_type": "scse",
            "aux_params": {"classes": 2},
        },
    ),
    "unet_timm": ("Unet", {"encoder_name": "tu-resnet18"}),
    "unet_timm_lite": ("Unet", {"encoder_name": "tu-tf_efficientnet_lite0"}),
    "unet_one_class": ("Unet", {"encoder_name": "mobilenet_v2", "classes": 1, "activation": "sigmoid"}),
    "unet_efficientnet_depth4": (
        "Unet",
        {"encoder_name": "efficientnet-b0", "encoder_depth": 4, "decoder_channels": _NARROW},
    ),
    "unet_vgg_depth4": ("Unet", {"encoder_name": "vgg11_bn", "encoder_depth": 4, "decoder_channels": _NARROW}),
    "unet_mit_depth4": ("Unet", {"encoder_name": "mit_b0", "encoder_depth": 4, "decoder_channels": _NARROW}),
    "unetplusplus_depth3_scse": (
        "UnetPlusPlus",
        {"encoder_depth": 3, "decoder_channels": (32, 32, 16), "decoder_attention_type": "scse"},
    ),
    "manet_depth4": ("MAnet", {"encoder_depth": 4, "decoder_channels": _NARROW, "decoder_pab_channels": 16}),
    "linknet_depth3": ("Linknet", {"encoder_depth": 3}),
    "fpn_cat": (
        "FPN",
        {"decoder_merge_policy": "cat", "decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32},
    ),
    "fpn_depth4": ("FPN", {"encoder_depth": 4, "upsampling": 2}),
    "fpn_mit": ("FPN", {"encoder_name": "mit_b0"}),
    "pspnet": ("PSPNet", {}),
    "pspnet_depth4_no_norm": (
        "PSPNet",
        {"encoder_depth": 4, "upsampling": 16, "decoder_use_norm": False, "psp_out_channels": 64},
    ),
    "deeplabv3_stride8": ("DeepLabV3", {"decoder_channels": 32}),
    "deeplabv3_stride16_depth4_separable": (
        "DeepLabV3",
        {
            "encoder_output_stride": 16,
            "encoder_depth": 4,
            "decoder_aspp_separable": True,
            "decoder_atrous_rates": (2, 4, 6),
        },
    ),
    "deeplabv3_depth3": ("DeepLabV3", {"encoder_depth": 3, "decoder_channels": 32}),
    "deeplabv3_mobilenet": ("DeepLabV3", {"encoder_name": "mobilenet_v2", "decoder_channels": 32}),
    "deeplabv3_timm_convnext": (
        "DeepLabV3",
        {"encoder_name": "tu-convnext_tiny", "encoder_output_stride": 16, "decoder_channels": 32},
    ),
    "deeplabv3plus_stride8": ("DeepLabV3Plus", {"encoder_output_stride": 8, "decoder_channels": 32}),
    "deeplabv3plus_depth4": ("DeepLabV3Plus", {"encoder_depth": 4}),
    "deeplabv3plus_depth3": ("DeepLabV3Plus", {"encoder_depth": 3}),
    "pan": ("PAN", {}),
    "pan_stride32": ("PAN", {"encoder_output_stride": 32, "decoder_channels": 16}),
    "pan_depth4": ("PAN", {"encoder_depth": 4}),
    "upernet_depth4": ("UPerNet", {"encoder_depth": 4, "decoder_channels": 32}),
    "upernet_timm_convnext": ("UPerNet", {"encoder_name": "tu-convnext_tiny", "decoder_channels": 32}),
    "segformer_depth3": ("Segformer", {"encoder_depth": 3, "decoder_segmentation_channels": 32}),
    "segformer_mit_4channels": ("Segformer", {"encoder_name": "mit_b0", "in_channels": 4}),
}
"""For each case of segmentation_models_pytorch, the class and its options besides those of DEFAULTS."""

DEFAULTS = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3}

_CONVNEXT = {
    "model_type": "convnext",
    "hidden_sizes": [96, 192, 384, 768],
    "depths": [3, 3, 9, 3],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}

_SWIN = {"model_type": "swin", "out_features": ["stage1", "stage2", "stage3", "stage4"]}

_BEIT = {"image_size": 640, "out_indices": [3, 5, 7, 11], "use_relative_position_bias": True}

TRANSFORMERS_CASES = {
    "hf_segformer": ("segformer", {"num_labels": 3}, {}),
    "hf_segformer_b1": (
        "segformer",
        {"num_labels": 3, "num_channels": 4, "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 64},
        {},
    ),
    "hf_upernet": ("upernet", {"num_labels": 3, "hidden_size": 32, "auxiliary_channels": 16}, _CONVNEXT),
    "hf_upernet_without_auxiliary_head": (
        "upernet",
        {"num_labels": 3, "hidden_size": 64, "use_auxiliary_head": False},
        _CONVNEXT,
    ),
    "hf_upernet_swin": ("upernet", {"num_labels": 3, "hidden_size": 32, "auxiliary_channels": 16}, _SWIN),
    "hf_upernet_swin_window12": (
        "upernet",
        {"num_labels": 3, "hidden_size": 32, "use_auxiliary_head": False},
        {
            **_SWIN,
            "embed_dim": 128,
            "depths": [2, 2, 18, 2],
            "num_heads": [4, 8, 16, 32],
            "window_size": 12,
            "num_channels": 4,
        },
    ),
    "hf_dpt": (
        "dpt",
        {
            "num_labels": 3,
            "image_size": 224,
            "neck_hidden_sizes": [16, 32, 48, 64],
            "fusion_hidden_size": 32,
            "use_batch_norm_in_fusion_residual": True,
        },
        {},
    ),
    "hf_dpt_add_4channels": (
        "dpt",
        {
            "num_labels": 3,
            "num_channels": 4,
            "readout_type": "add",
            "backbone_out_indices": [1, 4, 7, 10],
            "fusion_hidden_size": 16,
            "use_auxiliary_head": False,
        },
        {},
    ),
    "hf_eomt": (
        "eomt",
        {
            "num_labels": 3,
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "image_size": 128,
            "num_blocks": 3,
            "num_queries": 20,
        },
        {},
    ),
    "hf_eomt_patch14_4channels": (
        "eomt",
        {
            "num_labels": 2,
            "num_channels": 4,
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "patch_size": 14,
            "image_size": 196,
            "num_upscale_blocks": 1,
            "num_queries": 5,
        },
        {},
    ),
    "hf_mask2former": (
        "mask2former",
        {"num_labels": 3, "num_queries": 20, "encoder_layers": 2, "decoder_layers": 5, "hidden_dim": 64}
        | {"feature_size": 64, "mask_feature_size": 64, "num_attention_heads": 4},
        _SWIN,
    ),
    "hf_beit": ("beit", _BEIT | {"num_labels": 3, "auxiliary_channels": 16}, {}),
}
"""For each case of transformers, the type, the options, and those of the backbone."""


GOLDEN = ("hf_segformer", "hf_upernet", "hf_upernet_swin", "hf_beit", "hf_mask2former", "hf_dpt", "hf_eomt")
"""Cases of transformers that the tests compare, too: every type of network and of backbone."""

MASKING = "attn_mask_probs"
"""The name of a tensor of EoMT that is 0 once the network has been trained: attention is then not masked."""


def value_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the value of a tensor of a network of transformers."""
    return np.zeros(shape, np.float32) if name == MASKING else tensor(name, tuple(shape), 1.0)


UNTRAINED = ("hf_eomt", "hf_eomt_patch14_4channels")
"""Cases whose gradients are compared in inference mode only, because training mode draws random numbers."""


def sizes_of(case: str) -> tuple[tuple[int, int], ...]:
    """Returns the sizes (height, width) of the images of a case; transformers' EoMT takes those of one size only."""
    if case.startswith("hf_eomt"):
        side = TRANSFORMERS_CASES[case][1]["image_size"]
        return ((side, side),)
    return SQUARE_SIZES if case.startswith("hf_dpt") else SIZES_OF.get(case, IMAGE_SIZES)
