"""A callback that sends the log of a run to Weights & Biases."""

import importlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from flaxseg.callbacks.tracking import FINISHED, STOPPED_PATIENCE_SECONDS, Tracking, run_name
from flaxseg.errors import ArgumentError, check_choice
from flaxseg.train.callbacks import Callback

MODES = ("", "online", "offline", "disabled")


def wandb_callback(
    *,
    workdir: Path,
    config: ConfigDict,
    project: str = "flaxseg",
    entity: str = "",
    name: str = "",
    group: str = "",
    mode: str = "",
) -> Callback:
    """Returns a callback that sends the log of a run to Weights & Biases; needs the extra `wandb`.

    Args:
      workdir: the working directory of the run.
      config: the configuration of the run.
      project: the project that the run belongs to.
      entity: the user or team that owns the project; "": that of the login.
      name: the name of the run; "": that of the working directory.
      group: the group of the run; "": none.
      mode: "online"; "offline", to send the files later, with `wandb sync`; "disabled"; "": as WANDB_MODE says.

    Raises:
      ImportError: wandb is not installed.
      ArgumentError: an unknown mode, or "online" without a login.
    """
    check_choice("mode", mode, MODES)
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(f"needs wandb ({error}): pip install 'flaxseg[wandb]'") from error
    is_online = (mode or wandb.setup().settings.mode) == "online"
    # Without a login, wandb asks for one, where nobody can answer.
    if is_online and jax.process_index() == 0 and not wandb.login(prompt=False, verify=False):
        raise ArgumentError(
            "mode",
            mode,
            "there is no login for Weights & Biases; run `wandb login` or set WANDB_API_KEY, or use 'offline' and "
            "`wandb sync` later",
        )
    arguments = {
        "project": project,
        "entity": entity or None,
        "name": name or run_name(workdir),
        "group": group or None,
        "mode": mode or None,
        "dir": str(workdir),
        # Offline parts of a run are joined by their id when they are sent.
        "resume": "allow" if is_online else None,
    }
    return Tracking(WandbRun(wandb, arguments), name="wandb", workdir=workdir, config=config)


class WandbRun:
    """A run of Weights & Biases; see `Service`.

    Args:
      wandb: the module.
      arguments: those of `wandb.init`, except for the run's id.
    """

    def __init__(self, wandb: Any, arguments: Mapping[str, Any]) -> None:
        self._wandb = wandb
        self._arguments = arguments
        self._run: Any = None

    def open(self, run_id: str) -> str:
        """Begins a run, or continues one that has an id, and returns its id."""
        run_id = run_id or secrets.token_hex(4)
        # Standard output and error are left alone, and the end of the program does not wait for a slow network.
        settings = self._wandb.Settings(console="off", finish_timeout=STOPPED_PATIENCE_SECONDS)
        self._run = self._wandb.init(id=run_id, reinit="create_new", settings=settings, **self._arguments)
        return run_id

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Sends the configuration."""
        self._run.config.update(config, allow_val_change=True)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Sends numbers of a step by their names."""
        self._run.log(dict(scalars), step=step)

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Sends PNG files of a step by their names."""
        self._run.log({f"images/{name}": self._wandb.Image(str(path)) for name, path in images.items()}, step=step)

    def log_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Sends the final scores by their names, as the summary of the run."""
        self._run.summary.update(dict(scores))

    def close(self, status: str) -> None:
        """Ends the run."""
        self._run.finish(exit_code=0 if status == FINISHED else 1)
