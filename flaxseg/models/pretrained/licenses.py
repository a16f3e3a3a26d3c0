"""Licenses of published weights: which are free to use, and which have to be accepted first."""

import dataclasses
import re
import sys

from flaxseg.errors import WeightsError

_FREE = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause(-clear)?)?|isc|zlib|unlicense|wtfpl|0bsd|cc0-1\.0|pddl|cc-by(-sa)?-\d\.\d|"
    r"[al]?gpl(-\d\.\d)?|mpl-2\.0|epl-[12]\.0|eupl-1\.[12]|ecl-2\.0|artistic-2\.0|afl-3\.0|bsl-1\.0|osl-3\.0|ms-pl|"
    r"ncsa|postgresql|ofl-1\.1|odc-by|odbl|cdla-permissive-[12]\.0|cdla-sharing-1\.0|cc"
)
"""The identifiers, on the hub, of licenses that allow every use, and that everybody knows."""

NOT_STATED = "not stated"
"""What stands for the license of weights whose model card states none."""

_FRONT_MATTER = re.compile(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", re.DOTALL)
_ENTRY = r"^{}:[ \t]*(?:\n[ \t]*-[ \t]*)?(\S[^\n]*?)[ \t]*$"
_MAX_LENGTH = 200


@dataclasses.dataclass(frozen=True)
class License:
    """The license of weights, as a model card states it.

    Attributes:
      identifier: as the hub names it, such as "apache-2.0"; "other" for a custom license; "" if none is stated.
      title: the name of a custom license; "" if it has none.
      link: where its text is; "" if unknown.
    """

    identifier: str = ""
    title: str = ""
    link: str = ""

    def __str__(self) -> str:
        if not self.identifier:
            return NOT_STATED
        title = f" ({self.title})" if self.title else ""
        return f"{self.identifier}{title}" + (f", {self.link}" if self.link else "")

    @property
    def needs_acceptance(self) -> bool:
        """Whether the license is non-commercial or custom."""
        return bool(self.identifier) and not _FREE.fullmatch(self.identifier.lower())


def read_license(card: str) -> License:
    """Returns the license that the metadata of a model card states.

    Args:
      card: the text of the card.
    """
    found = _FRONT_MATTER.match(card.replace("\r\n", "\n"))
    if not found:
        return License()
    keys = ("license", "license_name", "license_link")
    return License(*(_entry(found[1], key) for key in keys))


def check_license(license: License, name: str, *, accepted: bool) -> None:
    """Checks that the license of weights is free, or accepted.

    Args:
      license: the license.
      name: what messages call the weights.
      accepted: the user accepts it.

    Raises:
      WeightsError: it has to be accepted, and is not.
    """
    if license.needs_acceptance and not accepted:
        raise WeightsError(
            f"{name}: the license of these weights is {license}, which is non-commercial or custom. Read it, and if "
            "you accept it, give accept_license=True (--accept_license on the command line, or "
            "--config.model.accept_license=True to train); nothing was loaded"
        )


def print_license(license: License, name: str) -> None:
    """Prints the license of weights to stderr."""
    print(f"{name}: license of the weights: {license}", file=sys.stderr)


def _entry(metadata: str, key: str) -> str:
    found = re.search(_ENTRY.format(key), metadata, re.MULTILINE)
    return found[1].strip("'\"")[:_MAX_LENGTH] if found else ""
