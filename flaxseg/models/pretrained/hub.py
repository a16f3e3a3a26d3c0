"""Public weights from the Hugging Face hub, or from the copies of them on this computer."""

import errno
from pathlib import Path

from flaxseg.errors import WeightsError

# Windows knows no quotas.
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_MOST_SAID = 200
_SUFFIX = ".safetensors"
_REMEDY = (
    "Or download the file elsewhere and give its path as model.pretrained, or copy the cache of a computer that has it "
    "and set HF_HUB_CACHE to the copy"
)


def download(repository: str, filename: str, *, revision: str) -> Path:
    """A file of a model repository on the hub, fetched once and then taken from the cache.

    The variables of huggingface_hub hold: HF_HOME and HF_HUB_CACHE say where the cache is, HF_HUB_OFFLINE=1 forbids the
    network, HF_ENDPOINT names another server, HF_TOKEN is who asks.

    Args:
      repository: such as `timm/resnet18.a1_in1k`.
      filename: in the repository; safetensors alone, which cannot hold code.
      revision: a commit, tag or branch; only a commit is always the same file, and needs no network once it is cached.

    Returns:
      The path of the file in the cache.

    Raises:
      WeightsError: the file is of another kind, or cannot be had: no network, no such repository, revision or file,
        no right to it, no room on the disk.
    """
    if not filename.endswith(_SUFFIX):
        raise WeightsError(
            f"{repository}: {filename} is not fetched from the hub, of which only {_SUFFIX} files are taken: other "
            "kinds can hold code; name the repository's safetensors file"
        )
    # Here, so that importing flaxseg stays quick and reads no settings of the hub.
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision, library_name="flaxseg"))
    except Exception as error:
        # Any: what the network raises are classes of an HTTP library that differs between versions of the hub's.
        raise WeightsError(
            f"{filename} of {repository} at revision {revision} cannot be had from the Hugging Face hub: "
            f"{_reason(error)}. {_REMEDY}"
        ) from error


def _reason(error: Exception) -> str:
    """What happened, and what can be done about it on the hub's side."""
    from huggingface_hub import constants, errors

    server = constants.ENDPOINT
    match error:
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return (
                f"it is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids the network; unset that"
            )
        case errors.LocalEntryNotFoundError():
            cause = error.__cause__ or error
            return (
                f"{server} does not answer with it ({_said(cause)}), and it is not in the cache "
                f"{constants.HF_HUB_CACHE}; check the network, HF_ENDPOINT and the proxy"
            )
        case errors.GatedRepoError():
            return "the repository asks its users to log in and accept its terms; do so on its page, and set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            return f"{server} has no such repository, or it is private; check the name, or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            return "the repository has no such revision; give a commit, tag or branch of it"
        case errors.EntryNotFoundError():
            return "the repository has no such file at that revision; choose one that its page lists"
        case OSError(errno=number) if number in _DISK_FULL:
            return (
                f"the disk of the cache {constants.HF_HUB_CACHE} is full; set HF_HUB_CACHE to a folder with more room"
            )
        case PermissionError():
            return f"the cache cannot be written ({_said(error)}); set HF_HUB_CACHE to a folder of your own"
    return _said(error)


def _said(error: BaseException) -> str:
    """An error's message in one line, cut where advice would make it long."""
    said = " ".join(str(error).split())[:_MOST_SAID]
    return f"{type(error).__name__}: {said}".rstrip(".: ")
