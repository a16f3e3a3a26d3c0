"""The files of a published network: a folder, or a repository of the Hugging Face hub at one commit."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.hub import PREFIX, fetch, parse_name
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.models.pretrained.licenses import License, read_license
from flaxseg.models.pretrained.published import Settings

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
TRANSFORMS = "albumentations_config_eval.json"
CARD = "README.md"
OWN_DESCRIPTION = "model.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names of files of weights, in the order of preference."""
INDEXES = tuple(f"{name}.index.json" for name in WEIGHTS)
"""The names of files that list those of weights that are split over several files."""

_FILE_NAME = re.compile(r"\w[\w.-]*\.(safetensors|bin)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Repository:
    """The files of a published network.

    Args:
      source: a folder, or `hf:owner/name` or `hf:owner/name@revision`, whose files are downloaded when they are needed.

    Attributes:
      name: what messages call it; for a repository of the hub with its commit, as `hf:owner/name@commit`.
      is_download: it comes from the hub.

    Raises:
      WeightsError: there is no such folder, or it is not a repository's name.
    """

    def __init__(self, source: str) -> None:
        self.is_download = source.startswith(PREFIX)
        self.name = source
        if self.is_download:
            self._repository, self._revision = parse_name(source)
            return
        self._folder = Path(source).expanduser()
        if not self._folder.is_dir():
            raise WeightsError(f"{source}: is not a directory; give a folder, or {PREFIX}OWNER/NAME")

    def find(self, filename: str) -> Path | None:
        """Returns the path of a file, which is downloaded first if necessary; None if there is no such file.

        The first file that is found fixes the commit that all others are taken from.

        Raises:
          WeightsError: it cannot be downloaded.
        """
        if not self.is_download:
            path = self._folder / filename
            return path if path.is_file() else None
        downloaded = fetch(self._repository, filename, revision=self._revision)
        if downloaded is not None:
            # The cache's folders of downloaded files are named for their commit.
            self._revision = downloaded.parent.name
            self.name = f"{PREFIX}{self._repository}@{self._revision}"
        return downloaded

    def settings(self, filename: str) -> Settings | None:
        """Returns the content of a JSON file; None if there is no such file.

        Raises:
          WeightsError: it cannot be downloaded or read.
        """
        path = self.find(filename)
        if path is None:
            return None
        return Settings(_read_json(path, f"{self.name}: {filename}"), f"{self.name}: {filename}")

    def card(self) -> str:
        """Returns the text of the model card; "" without one."""
        path = self.find(CARD)
        return "" if path is None else path.read_text(encoding="utf-8", errors="replace")

    @property
    def origin(self) -> str:
        """What a record of the network calls it: its name on the hub, or that of the folder without its path."""
        return self.name if self.is_download else self._folder.resolve().name

    @property
    def license(self) -> License:
        """The license that the model card states."""
        return read_license(self.card())

    def tensors(self, *, sha256: str = "") -> dict[str, np.ndarray]:
        """Returns the tensors of the weights by their names, from one file or from all that an index lists.

        Args:
          sha256: the expected SHA-256 of the file, or its first digits; "" takes those that the hub records.

        Raises:
          WeightsError: there are no weights, a file is missing, is another one or cannot be read, or the index differs
            from the files.
        """
        for filename in WEIGHTS:
            if (path := self.find(filename)) is not None:
                return read_weights(path, sha256=sha256 or self._recorded(path))
        for filename in INDEXES:
            if (settings := self.settings(filename)) is not None:
                return self._joined(settings, sha256)
        raise WeightsError(
            f"{self.name}: contains no weights that can be read ({', '.join((*WEIGHTS, *INDEXES))}); give another "
            "repository, or save its network again with its own library"
        )

    def _joined(self, index: Settings, sha256: str) -> dict[str, np.ndarray]:
        """Returns the tensors of all files that an index lists."""
        places = index.take("weight_map")
        if not isinstance(places, dict) or not all(map(_is_file_name, places.values())):
            raise index.error("weight_map", places, "must name the file of each tensor, without a folder")
        if sha256:
            raise WeightsError(
                f"{self.name}: sha256 = {sha256!r} is that of one file, but the weights are in several; leave it out "
                "and name a commit as the revision instead"
            )
        tensors: dict[str, np.ndarray] = {}
        for filename in sorted(set(places.values())):
            path = self.find(filename)
            if path is None:
                raise WeightsError(f"{self.name}: has no file {filename}, which {index.name} lists; download it again")
            found = read_weights(path, sha256=self._recorded(path))
            if found.keys() != {name for name, place in places.items() if place == filename}:
                raise WeightsError(
                    f"{self.name}: {filename} has other tensors than {index.name} lists; download both again"
                )
            tensors |= found
        return tensors

    def _recorded(self, path: Path) -> str:
        """Returns the SHA-256 that the hub records for a file; "" if unknown."""
        # The cache names large files for it.
        blob = path.resolve().name
        return blob if self.is_download and _SHA256.fullmatch(blob) else ""


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and _FILE_NAME.fullmatch(value) is not None


def check_names_no_code(network: str, repository: str) -> None:
    """Checks that a downloaded description names a network of flaxseg, and not a function to import.

    Args:
      network: the name of the network.
      repository: what messages call the repository.

    Raises:
      WeightsError: the name is of the form `package.module:function`.
    """
    if ":" in network:
        raise WeightsError(
            f"{repository}: its network is {network!r}, which names code; a downloaded file must not. If you trust its "
            "author and have the code, download the files, and give their folder or, to train, the file of weights"
        )


def _read_json(path: Path, name: str) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: cannot be read ({error}); restore or download it again") from error
