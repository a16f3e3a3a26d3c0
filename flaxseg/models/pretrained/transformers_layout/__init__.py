"""The layout of transformers: `READERS` lists the types of networks that can be opened, one file for each."""

from collections.abc import Callable

from flaxseg.models.pretrained.published import Layout, Settings
from flaxseg.models.pretrained.transformers_layout.beit import read_beit
from flaxseg.models.pretrained.transformers_layout.configuration import TYPE_KEY
from flaxseg.models.pretrained.transformers_layout.dpt import read_dpt
from flaxseg.models.pretrained.transformers_layout.eomt import read_eomt
from flaxseg.models.pretrained.transformers_layout.mask2former import read_mask2former
from flaxseg.models.pretrained.transformers_layout.segformer import read_segformer
from flaxseg.models.pretrained.transformers_layout.upernet import read_upernet

READERS: dict[str, Callable[[Settings], Layout]] = {
    "segformer": read_segformer,
    "upernet": read_upernet,
    "beit": read_beit,
    "dpt": read_dpt,
    "eomt": read_eomt,
    "mask2former": read_mask2former,
}
"""For each `model_type`, the function that reads its configuration."""

__all__ = ["READERS", "TYPE_KEY", "read_transformers"]


def read_transformers(settings: Settings) -> Layout:
    """Returns the network that the `config.json` of transformers describes.

    Raises:
      WeightsError: a type or an option that has no counterpart here; the message names the key.
    """
    kind = settings.text(TYPE_KEY)
    if kind not in READERS:
        raise settings.error(TYPE_KEY, kind, f"is not supported; supported are {', '.join(READERS)}")
    architectures = settings.take("architectures") or []
    if isinstance(architectures, list) and not any(str(name).endswith("Segmentation") for name in architectures):
        raise settings.error("architectures", architectures, "is not a network for segmentation; give another one")
    return READERS[kind](settings)
