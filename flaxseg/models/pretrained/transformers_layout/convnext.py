"""ConvNeXt as a backbone in the layout of transformers."""

from typing import Any

from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.torch_names import TorchNames
from flaxseg.models.pretrained.transformers_layout.backbone import Backbone
from flaxseg.models.pretrained.transformers_layout.configuration import encoder_of

_NAMES: TorchNames = (
    (r"backbone\.embeddings\.patch_embeddings", "encoder/stem/conv"),
    (r"backbone\.embeddings\.layernorm", "encoder/stem/norm"),
    (r"backbone\.encoder\.stages\.(\d)\.downsampling_layer\.0", r"encoder/stage\1_downsample/norm"),
    (r"backbone\.encoder\.stages\.(\d)\.downsampling_layer\.1", r"encoder/stage\1_downsample/conv"),
    *(
        (rf"backbone\.encoder\.stages\.(\d)\.layers\.(\d+)\.{theirs}", rf"encoder/stage\1_block\2/{ours}")
        for theirs, ours in (
            ("dwconv", "depthwise"),
            ("layernorm", "norm"),
            ("pwconv1", "expand"),
            ("pwconv2", "project"),
            ("layer_scale_parameter", "gamma"),
        )
    ),
)


def _options(settings: Settings) -> dict[str, Any]:
    settings.require("patch_size", 4)
    settings.require("num_stages", 4)
    settings.require("hidden_act", "gelu")
    sizes = {
        "hidden_sizes": (lambda encoder: encoder.widths, (96, 192, 384, 768)),
        "depths": (lambda encoder: encoder.blocks, (3, 3, 9, 3)),
    }
    return {"encoder": encoder_of(settings, "convnext_", sizes)}


CONVNEXT = Backbone(_options, _NAMES)
