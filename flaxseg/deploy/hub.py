"""Uploads an exported folder to the Hugging Face hub."""

from pathlib import Path

from flaxseg.deploy.folder import FILES
from flaxseg.errors import ExportError

_MAX_MESSAGE_LENGTH = 300


def push(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Uploads the files of an exported folder to a model repository, which is created if it does not exist.

    The environment variables of huggingface_hub apply: HF_TOKEN logs in, HF_ENDPOINT names another server.

    Args:
      folder: an exported folder; only the files that an export writes are uploaded.
      repository: such as `lab/pets-unet`.
      private: create a private repository; one that exists keeps its visibility.

    Returns:
      The address of the commit.

    Raises:
      ExportError: the repository cannot be created or written to.
    """
    # Imported here so that importing flaxseg stays fast and does not read the hub's settings.
    import huggingface_hub

    hub = huggingface_hub.HfApi(library_name="flaxseg")
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            allow_patterns=list(FILES),
            commit_message="Upload a segmentation network",
        )
    # Any exception: those of the network belong to an HTTP library that depends on the version of huggingface_hub.
    except Exception as error:
        message = " ".join(str(error).split())[:_MAX_MESSAGE_LENGTH]
        raise ExportError(
            f"--push={repository}: {folder} cannot be uploaded to the Hugging Face hub ({type(error).__name__}: "
            f"{message}); check the name as OWNER/NAME, the network, and that HF_TOKEN may write there. The folder "
            "itself is complete"
        ) from error
    return str(commit.commit_url)
