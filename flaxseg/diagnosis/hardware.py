"""The devices that JAX finds, and the memory and the processor cores of the host."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import psutil

from flaxseg.data.memory import available_memory, memory_limit, size_text
from flaxseg.data.threads import thread_count
from flaxseg.diagnosis.findings import Finding, Note, Problem, Row
from flaxseg.host_memory import page_size

_NVIDIA = Path("/dev/nvidia0")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPU_QUOTA_V1 = Path("/sys/fs/cgroup/cpu")
_LITTLE_MEMORY = 2**30


def check_devices() -> Iterator[Finding]:
    """Yields the devices that JAX uses, their kind and their memory."""
    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        remedy = "unset JAX_PLATFORMS, or check the driver and `pip install 'flaxseg[cuda13]'` (or cuda12, or tpu)"
        yield Problem(f"JAX finds no devices ({reason})", remedy)
        return
    yield Row("platform", f"{devices[0].platform}, {len(devices)} in {jax.process_count()} process")
    for device in jax.local_devices():
        yield Row(str(device), f"{device.device_kind}{_memory(device)}")
    if _NVIDIA.exists() and devices[0].platform == "cpu":
        if os.environ.get("JAX_PLATFORMS", "") or not os.environ.get("CUDA_VISIBLE_DEVICES", "0"):
            yield Note("there is an NVIDIA GPU, which JAX_PLATFORMS or CUDA_VISIBLE_DEVICES hides from JAX")
        else:
            remedy = (
                "pip install 'flaxseg[cuda13]' (or cuda12, for older drivers; `nvidia-smi` shows the driver's CUDA)"
            )
            yield Problem("there is an NVIDIA GPU, but JAX only uses the CPU", remedy)


def check_host() -> Iterator[Finding]:
    """Yields the memory and the processor cores of the host, and the limits of a container on both."""
    limit = memory_limit()
    available = available_memory()
    limited = "" if limit is None else f"; this container may use {size_text(limit)}"
    yield Row("memory", f"{size_text(psutil.virtual_memory().total)}{limited}")
    yield Row("available", f"{size_text(available)}, which the images of one batch have to fit into")
    if available < _LITTLE_MEMORY:
        yield Problem(
            f"only {size_text(available)} of host memory are available", "end other programs, or raise the limit"
        )
    yield Row("memory pages", page_size())
    usable, quota = thread_count(-1), _cpu_quota()
    yield Row("cores", f"{os.cpu_count()}; {usable} threads read images with config.data.num_threads=-1")
    if quota is not None:
        yield Row("core limit", f"this container may use {quota:g} cores")
        if quota < usable:
            fitting = max(round(quota), 1)
            yield Note(f"more threads than cores: config.data.num_threads={fitting} may be faster")


def _memory(device: Any) -> str:
    """Returns the memory of a device as text; "" if it does not report it, as a CPU."""
    try:
        statistics = device.memory_stats() or {}
    except Exception:  # Backends differ in how they refuse.
        return ""
    limit, used = statistics.get("bytes_limit"), statistics.get("bytes_in_use", 0)
    return f", {size_text(limit)} for arrays, {size_text(used)} in use" if limit else ""


def _cpu_quota() -> float | None:
    """Returns the number of cores that the control group of a container allows; None without a limit."""
    try:
        quota, period = _CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        try:
            quota, period = ((_CPU_QUOTA_V1 / name).read_text(encoding="ascii").strip() for name in names)
        except (OSError, ValueError):
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
