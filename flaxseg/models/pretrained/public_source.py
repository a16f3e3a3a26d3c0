"""Opens a public network: `hf:owner/name`, a folder in the same layout, or a checkpoint of torchvision."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from flaxseg.errors import WeightsError, is_number
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from flaxseg.models.pretrained.files import weight_shapes
from flaxseg.models.pretrained.hub import PREFIX
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.models.pretrained.licenses import License, check_license
from flaxseg.models.pretrained.preprocessing import Preprocessing, read_preprocessing
from flaxseg.models.pretrained.published import Arrays, Layout, Unknown
from flaxseg.models.pretrained.repository import CONFIG, OWN_DESCRIPTION, Repository
from flaxseg.models.pretrained.smp_layout import CLASS_KEY, read_smp
from flaxseg.models.pretrained.torchvision_layout import (
    DATASET,
    LICENSE,
    is_published,
    is_torchvision,
    read_torchvision,
)
from flaxseg.models.pretrained.transformers_layout import TYPE_KEY, read_transformers
from flaxseg.models.pretrained.weights_file import WeightsFile

_READERS = {CLASS_KEY: read_smp, TYPE_KEY: read_transformers}
"""For each layout, the key of `config.json` that only it has."""

_DATASET = re.compile(r"^Dataset name: *(.+)$", re.MULTILINE)
_MAX_CONFIG_BYTES = 10**7


@dataclasses.dataclass(frozen=True)
class PublicNetwork:
    """A public network without its weights.

    Attributes:
      repository: its files, or its only one.
      layout: how it is built, and how its tensors are converted.
      preprocessing: what it expects of images.
      license: the license of the weights.
      dataset: the name of the dataset that it was trained on, as its model card states it; "" if it does not.
    """

    repository: Repository | WeightsFile
    layout: Layout
    preprocessing: Preprocessing
    license: License
    dataset: str = ""

    @property
    def name(self) -> str:
        """Where it comes from, with the commit."""
        return self.repository.name

    @property
    def origin(self) -> str:
        """What a record of the network calls it; see `Repository`."""
        return self.repository.origin

    def arrays(self, model: Any, *, sha256: str = "") -> tuple[Arrays, Unknown]:
        """Returns the weights as arrays by their path in a network, and the shapes of tensors without a path.

        Args:
          model: the network, of the architecture and with the options of `layout`.
          sha256: the expected SHA-256 of the file, or its first digits; "" takes the one that the hub records.

        Raises:
          WeightsError: the file is missing, is another one, or cannot be read.
        """
        return self.layout.convert(model, self.repository.tensors(sha256=sha256))


def is_public(source: str | Path) -> bool:
    """Returns whether a source is a repository of the hub, a folder of another library, or a file of torchvision's."""
    if isinstance(source, str) and source.startswith(PREFIX):
        return True
    path = Path(source).expanduser()
    config = path / CONFIG
    try:
        if path.is_file():
            return is_torchvision(weight_shapes(path))
        if not config.is_file() or config.stat().st_size > _MAX_CONFIG_BYTES:
            return False
        found = parse_json(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, WeightsError):
        return False
    return isinstance(found, dict) and any(key in found for key in _READERS)


def open_public(source: str | Path, *, accept_license: bool = False) -> PublicNetwork | Repository:
    """Returns a public network; its weights are not downloaded yet.

    Args:
      source: for which `is_public` is true.
      accept_license: the user accepts a license of the weights that is non-commercial or custom.

    Returns:
      The network; or the repository alone if it holds a network that this library has exported.

    Raises:
      WeightsError: there is no such repository, it cannot be downloaded, its layout or an option is not supported, or
        its license has to be accepted.
    """
    if not str(source).startswith(PREFIX) and Path(source).expanduser().is_file():
        return _open_file(WeightsFile(source))
    repository = Repository(str(source))
    config = repository.settings(CONFIG)
    key = next((key for key in _READERS if config and config.take(key) is not None), None)
    if config is None or key is None:
        if repository.find(OWN_DESCRIPTION) is None:
            raise WeightsError(
                f"{repository.name}: has neither a {CONFIG} of segmentation_models_pytorch or transformers nor a "
                f"{OWN_DESCRIPTION} of flaxseg, so that its network is unknown; give another repository"
            )
        check_license(repository.license, repository.name, accepted=accept_license)
        return repository
    layout = _READERS[key](config)
    check_license(repository.license, repository.name, accepted=accept_license)
    dataset = _DATASET.search(repository.card())
    images = _preprocessing(repository, layout)
    return PublicNetwork(repository, layout, images, repository.license, dataset[1].strip() if dataset else "")


def _open_file(file: WeightsFile) -> PublicNetwork:
    layout = read_torchvision(file.shapes(), file.name)
    is_rgb = layout.channels == len(IMAGENET_MEAN)
    images = Preprocessing(IMAGENET_MEAN, IMAGENET_STD) if is_rgb else Preprocessing(0.0, 255.0)
    if not is_published(layout):
        return PublicNetwork(file, layout, images, License())
    return PublicNetwork(file, layout, images, LICENSE, DATASET)


def _preprocessing(repository: Repository, layout: Layout) -> Preprocessing:
    """Returns what a network expects of images; the normalization of its encoder's public weights if nothing is said.

    Raises:
      WeightsError: the repository's file has values that are not numbers, or not one for each channel.
    """
    found = read_preprocessing(repository)
    encoder = ENCODERS[layout.options["encoder"]]
    if found.mean is None or found.std is None:
        known = layout.channels == len(encoder.mean)
        mean, std = (encoder.mean, encoder.std) if known else (0.0, 255.0)
        what = f"that of encoder {layout.options['encoder']}" if known else "a division by 255"
        note = f"the repository states no normalization of images; it is assumed to be {what}"
        return dataclasses.replace(found, mean=mean, std=std, notes=(*found.notes, note))
    for key, values in (("mean", found.mean), ("std", found.std)):
        numbers = values if isinstance(values, tuple) else (values,)
        if len(numbers) not in (1, layout.channels) or not all(map(is_number, numbers)):
            raise WeightsError(f"{repository.name}: the {key} of images is {values}; it must be one number per channel")
    return found


def network_options(found: PublicNetwork) -> dict[str, Any]:
    """Returns the options of a public network, including the normalization of its images."""
    return {**found.layout.options, "mean": found.preprocessing.mean, "std": found.preprocessing.std}
