"""The list of all checks, of a machine and of a run, in the order in which `flaxseg.doctor` reports them."""

import functools
from collections.abc import Iterator
from pathlib import Path

from flaxseg.diagnosis import device_step, hardware, run_checkpoints, run_files, run_logs, software, storage
from flaxseg.diagnosis.findings import Check, Finding, Section, examine

_SAVES = 2
"""While a checkpoint is saved, the one that it replaces is still there."""


def examine_machine(*, skip_devices: bool = False) -> Iterator[Section]:
    """Yields a section for each check of the installation, the host and the devices.

    Args:
      skip_devices: leave out the checks that use the devices.
    """
    checks: dict[str, Check] = {
        "versions": software.check_versions,
        "settings": software.check_settings,
        "host": hardware.check_host,
    }
    if not skip_devices:
        device_step.allow_cpu()
        checks |= {"devices": hardware.check_devices, "training step on each device": device_step.check_steps}
    for title, check in checks.items():
        yield examine(title, check)


def examine_storage(directory: Path) -> Section:
    """Returns the section about the file system of a directory.

    Args:
      directory: the directory of a run, or any other.
    """
    existing = next((each for each in (directory, *directory.absolute().parents) if each.is_dir()), Path("."))

    def check() -> Iterator[Finding]:
        size = run_checkpoints.checkpoint_bytes(directory)
        yield from storage.check_storage(existing, **({"needed": _SAVES * size} if size else {}))

    return examine("storage", check)


def examine_run(workdir: Path) -> Iterator[Section]:
    """Yields a section for each check of the directory of a run; nothing in it is changed.

    Args:
      workdir: the directory.
    """
    kind = examine("run", functools.partial(run_files.check_kind, workdir))
    yield kind
    if kind.problems:
        return
    is_in_use = _is_in_use(workdir)
    checks: dict[str, Check] = {
        "lock": functools.partial(run_files.check_lock, workdir),
        "configuration": functools.partial(run_files.check_config, workdir),
        "data": functools.partial(run_files.check_data, workdir),
        "network": functools.partial(run_files.check_model, workdir),
        "samples": functools.partial(run_files.check_samples, workdir),
        "checkpoints": functools.partial(run_checkpoints.check_checkpoints, workdir, is_in_use=is_in_use),
        "logs": functools.partial(run_logs.check_logs, workdir, last_step=run_checkpoints.latest_step(workdir)),
    }
    for title, check in checks.items():
        yield examine(title, check)


def _is_in_use(workdir: Path) -> bool:
    try:
        lock = run_files.find_lock(workdir)
    except OSError:
        return False  # Reported by the check of the lock.
    return lock is not None and lock.is_held
