"""The files of a published network: a folder, or a repository of the Hugging Face hub at one commit."""

import re
from pathlib import Path
from typing import Any

from flaxseg.errors import WeightsError
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

    def weights(self) -> tuple[Path, str]:
        """Returns the path of the file of weights, and the SHA-256 that the hub records for it; "" if unknown.

        Raises:
          WeightsError: there is none.
        """
        for filename in WEIGHTS:
            path = self.find(filename)
            if path is not None:
                # The cache names large files for the SHA-256 that the hub records.
                blob = path.resolve().name
                return path, blob if self.is_download and _SHA256.fullmatch(blob) else ""
        raise WeightsError(
            f"{self.name}: contains no weights that can be read ({' or '.join(WEIGHTS)}); give another repository, or "
            "save its network again with its own library"
        )


def _read_json(path: Path, name: str) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: cannot be read ({error}); restore or download it again") from error
