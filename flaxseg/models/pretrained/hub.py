"""Downloads public weights from the Hugging Face hub, or finds them in the local cache."""

import errno
import re
import threading
import time
from pathlib import Path

from flaxseg.errors import WeightsError

PREFIX = "hf:"
"""What the name of a repository of the hub begins with, as in `hf:owner/name@revision`."""

# Windows has no EDQUOT.
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_MAX_MESSAGE_LENGTH = 200
_NAME = re.compile(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUFFIX = ".safetensors"
_REMEDY = (
    "Or download the file elsewhere and give its path instead (of a network of several files, the folder), or copy the "
    "cache of a computer that has it and set HF_HUB_CACHE to the copy, and HF_HUB_OFFLINE=1 to ask no server"
)

SECONDS_TO_ANSWER = 5.0
"""How long the hub may take to answer the first request; afterwards only the cache is searched."""

_SECONDS_TO_REMEMBER = 60.0
_answers: dict[str, tuple[float, Exception | None]] = {}
"""When each server was last asked, and why it did not answer; None if it did."""


def download(repository: str, filename: str, *, revision: str) -> Path:
    """Returns the path of a file of a model repository on the hub, which is downloaded once and then cached.

    The environment variables of huggingface_hub apply: HF_HOME and HF_HUB_CACHE set the location of the cache,
    HF_HUB_OFFLINE=1 forbids the network, HF_ENDPOINT names another server, HF_TOKEN logs in, and HF_HUB_ETAG_TIMEOUT is
    the number of seconds to wait for a first answer, 5 by default. Without an answer, only the cache is searched.

    Args:
      repository: such as `timm/resnet18.a1_in1k`.
      filename: the file's name in the repository; a safetensors file, which cannot contain code.
      revision: a commit, tag or branch. Only a commit always names the same file and needs no network once cached.

    Returns:
      The path of the file in the cache.

    Raises:
      WeightsError: the file is of another kind, or cannot be downloaded: there is no network, no such repository,
        revision or file, no permission to read it, or no space on the disk.
    """
    if not filename.endswith(_SUFFIX):
        raise WeightsError(
            f"{repository}: {filename} is not downloaded from the hub, from which only {_SUFFIX} files are taken, as "
            "others can contain code; name the repository's safetensors file"
        )
    path = fetch(repository, filename, revision=revision, optional=False)
    assert path is not None
    return path


def parse_name(name: str) -> tuple[str, str]:
    """Returns the repository and the revision, by default `main`, of a name such as `hf:owner/name@revision`.

    Raises:
      WeightsError: it has another form.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise WeightsError(
            f"{name!r}: is not a repository of the Hugging Face hub; write {PREFIX}OWNER/NAME, or "
            f"{PREFIX}OWNER/NAME@REVISION with a commit, tag or branch"
        )
    return match[1], match[2] or "main"


def fetch(repository: str, filename: str, *, revision: str, optional: bool = True) -> Path | None:
    """Returns the path of any file of a model repository; see `download`.

    Args:
      repository: such as `timm/resnet18.a1_in1k`.
      filename: the file's name in the repository. The caller must not run any code in the file.
      revision: a commit, tag or branch.
      optional: return None if the repository has no such file. Offline, that is the case if the cache has none.

    Raises:
      WeightsError: the file cannot be downloaded.
    """
    # Imported here so that importing flaxseg stays fast and does not read the hub's settings.
    import huggingface_hub
    from huggingface_hub import constants, errors

    silence = None
    try:
        path = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
        if not (_COMMIT.fullmatch(revision) and isinstance(path, str)):
            silence = None if constants.HF_HUB_OFFLINE else _silence(repository, filename, revision)
            # The library itself would try again and again for half a minute.
            path = huggingface_hub.hf_hub_download(
                repository,
                filename,
                revision=revision,
                library_name="flaxseg",
                local_files_only=silence is not None,
            )
        return Path(path)
    except Exception as error:
        # Any exception: those of the network belong to an HTTP library that depends on the version of huggingface_hub.
        absent = isinstance(error, errors.EntryNotFoundError)
        if isinstance(error, errors.LocalEntryNotFoundError):
            absent = constants.HF_HUB_OFFLINE and _is_cached(repository, revision)
        if optional and absent:
            return None
        raise WeightsError(
            f"{filename} of {repository} at revision {revision} cannot be downloaded from the Hugging Face hub: "
            f"{_reason(error, silence)}. {_REMEDY}"
        ) from error


def _silence(repository: str, filename: str, revision: str) -> Exception | None:
    """Returns why the hub does not answer a request about a file in time; None if it answers anything."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, filename, revision=revision)
    asked, silence = _answers.get(constants.ENDPOINT, (-_SECONDS_TO_REMEMBER, None))
    if time.monotonic() - asked < _SECONDS_TO_REMEMBER:
        return silence
    chosen = constants.HF_HUB_ETAG_TIMEOUT
    seconds = SECONDS_TO_ANSWER if chosen == constants.DEFAULT_ETAG_TIMEOUT else chosen
    found: list[Exception | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(url, timeout=seconds)
        except Exception as error:
            found.append(None if isinstance(error, errors.HfHubHTTPError | ValueError) else error)
        else:
            found.append(None)

    # In a thread, because looking up the server's address has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    silence = found[0] if found else TimeoutError(f"no answer within {seconds:g} seconds")
    _answers[constants.ENDPOINT] = time.monotonic(), silence
    return silence


def _is_cached(repository: str, revision: str) -> bool:
    """Returns whether the cache contains any file of a revision."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return (folder / "snapshots" / commit).is_dir()


def _reason(error: Exception, silence: Exception | None = None) -> str:
    """Returns what went wrong, and what can be done about it; see `_silence`."""
    from huggingface_hub import constants, errors

    server = constants.ENDPOINT
    match error:
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return (
                f"it is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids the network; unset that"
            )
        case errors.LocalEntryNotFoundError():
            cause = silence or error.__cause__ or error
            return (
                f"{server} does not answer with it ({_summary(cause)}), and it is not in the cache "
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
                f"the disk of the cache {constants.HF_HUB_CACHE} is full; set HF_HUB_CACHE to a folder with more space"
            )
        case PermissionError():
            return f"the cache cannot be written ({_summary(error)}); set HF_HUB_CACHE to a folder of your own"
    return _summary(error)


def _summary(error: BaseException) -> str:
    """Returns an error's type and message on one line of limited length."""
    message = " ".join(str(error).split())[:_MAX_MESSAGE_LENGTH]
    return f"{type(error).__name__}: {message}".rstrip(".: ")
