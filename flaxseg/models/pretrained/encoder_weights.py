"""The public weights of an encoder, and their license."""

import numpy as np

from flaxseg.errors import WeightsError, did_you_mean
from flaxseg.models.encoders import ENCODERS, HubFile
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.hub import download
from flaxseg.models.pretrained.licenses import License, check_license, print_license

PUBLIC = "imagenet"
"""The `source` that stands for the public weights of the network's encoder."""


def encoder_license(public: HubFile) -> License:
    """Returns the license of an encoder's public weights; if it is unknown, where it is stated."""
    return License(public.license or f"see https://huggingface.co/{public.repository}")


def read_encoder_weights(
    encoder: str, *, sha256: str = "", accept_license: bool = False
) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the origin of an encoder's public weights, for messages, and their tensors; prints their license.

    Args:
      encoder: a name of ENCODERS.
      sha256: the expected SHA-256 of the file, or its first digits; "": not checked.
      accept_license: the user accepts a license that is non-commercial or custom.

    Raises:
      WeightsError: there are none, their license has to be accepted, or they cannot be downloaded or read.
    """
    public = ENCODERS[encoder].pretrained
    if public is None:
        published = [name for name, each in ENCODERS.items() if each.pretrained]
        raise WeightsError(
            f"source = {PUBLIC!r}: there are no public weights of encoder {encoder}"
            f"{did_you_mean(encoder, published)}; give the path of a file"
        )
    check_license(License(public.license), public.repository, accepted=accept_license)
    print_license(encoder_license(public), public.repository)
    try:
        path = download(public.repository, public.filename, revision=public.revision)
    except WeightsError as error:
        raise WeightsError(f"{error}. Or set model.pretrained='' to start from random weights") from error
    return f"{public.repository} ({path})", read_weights(path, sha256=sha256)
