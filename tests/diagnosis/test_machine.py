"""What is reported about the software, the host, the devices and the file system."""

import dataclasses
import os
from collections import namedtuple
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

import flaxseg
from flaxseg.data import memory
from flaxseg.diagnosis import device_step, hardware, software, storage
from flaxseg.diagnosis.findings import Note, Problem, Row

GIBIBYTE = 2**30


def rows(check):
    return {finding.name: finding.text for finding in check if isinstance(finding, Row)}


def problems(check):
    return [finding for finding in check if isinstance(finding, Problem)]


def notes(check):
    return [finding.text for finding in check if isinstance(finding, Note)]


def test_versions_are_those_that_are_imported():
    found = rows(software.check_versions())
    assert (found["flaxseg"], found["jax"], found["numpy"]) == (flaxseg.__version__, jax.__version__, np.__version__)
    assert found["Python"].split()[0] == ".".join(map(str, os.sys.version_info[:3]))


def test_an_extra_lists_what_is_missing_of_it(monkeypatch):
    monkeypatch.setattr(software, "_EXTRAS", {"all": ("numpy", "no-such-package"), "none": ("no-such-package",)})
    found = rows(software.check_versions())
    assert found["extra all"] == f"numpy {np.__version__}, no-such-package missing"
    assert found["extra none"] == "not installed"


def test_settings_that_slow_training_down_are_explained(monkeypatch):
    for name in software._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert list(rows(software.check_settings())) == ["environment"]
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")
    monkeypatch.setenv("JAX_DEBUG_NANS", "false")
    assert rows(software.check_settings()) == {"JAX_DISABLE_JIT": "1", "JAX_DEBUG_NANS": "false"}
    (note,) = notes(software.check_settings())
    assert note.startswith("JAX_DISABLE_JIT=1: nothing is compiled")


def test_devices_and_the_host_are_listed():
    found = rows(hardware.check_devices())
    assert found["platform"] == "cpu, 8 in 1 process" and found["cpu:7"] == "cpu"
    found = rows(hardware.check_host())
    assert {"memory", "available", "cores"} <= found.keys() and found["cores"].startswith(f"{os.cpu_count()}; ")


def test_a_gpu_that_jax_does_not_use_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "_NVIDIA", tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    (problem,) = problems(hardware.check_devices())
    assert "JAX only uses the CPU" in problem.text and "flaxseg[cuda13]" in problem.remedy
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not problems(hardware.check_devices())
    assert "JAX_PLATFORMS" in notes(hardware.check_devices())[0]


def test_the_limits_of_a_container_are_reported(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(hardware, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(hardware, "thread_count", lambda threads: 8)
    monkeypatch.setattr(hardware, "memory_limit", lambda: 2 * GIBIBYTE)
    monkeypatch.setattr(hardware, "available_memory", lambda: GIBIBYTE // 2)
    found = rows(hardware.check_host())
    assert found["core limit"] == "this container may use 1.5 cores"
    assert found["memory"].endswith("; this container may use 2.0 GiB")
    assert notes(hardware.check_host()) == ["more threads than cores: config.data.num_threads=2 may be faster"]
    assert [problem.text for problem in problems(hardware.check_host())] == [
        "only 512 MiB of host memory are available"
    ]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert "core limit" not in rows(hardware.check_host())


CGROUP_V1 = ("5:cpu,cpuacct:/x\n4:memory:/jobs/7\n0::/\n", "memory/jobs/7", "memory.limit_in_bytes",
             "memory.usage_in_bytes", "total_inactive_file")  # fmt: skip
CGROUP_V2 = ("0::/jobs/7\n", "jobs/7", "memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(("groups", "folder", "limit", "usage", "cache"), [CGROUP_V1, CGROUP_V2], ids=["v1", "v2"])
def test_available_memory_heeds_the_limit_of_a_control_group(
    monkeypatch, tmp_path, groups, folder, limit, usage, cache
):
    (tmp_path / "groups").write_text(groups)
    group = tmp_path / folder
    group.mkdir(parents=True)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_CGROUP_OF_PROCESS", tmp_path / "groups")
    total = namedtuple("Memory", "available")(100)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)
    assert (memory.memory_limit(), memory.available_memory()) == (None, 100)
    (group / limit).write_text("70\n")
    (group / usage).write_text("40\n")
    (group / "memory.stat").write_text(f"rss 1\n{cache} 15\n")
    # Of the 40 bytes, the operating system can free the 15 that hold files.
    assert (memory.memory_limit(), memory.available_memory()) == (70, 45)
    (group / limit).write_text("max\n" if folder == "jobs/7" else f"{2**63 - 4096}\n")
    assert (memory.memory_limit(), memory.available_memory()) == (None, 100)
    # A group is also limited by those that it is in.
    (group.parent / limit).write_text("30\n")
    (group.parent / usage).write_text("50\n")
    (group.parent / "memory.stat").write_text(f"{cache} 0\n")
    assert (memory.memory_limit(), memory.available_memory()) == (30, 0)


def test_a_step_on_every_device_equals_that_on_the_cpu_and_a_wrong_one_is_found(monkeypatch):
    devices = jax.devices()[:2]
    found = list(device_step.check_steps(devices))
    assert list(rows(found)) == ["compared", "cpu:0", "cpu:1", "2 devices"] and not problems(found)
    assert 0 < float(rows(found)["2 devices"]) < 1e-5

    real = device_step._step_on

    def wrong(place, batch):
        found = real(place, batch)
        if place == [devices[1]]:
            name = next(name for name in found if name.startswith("the gradient of"))
            found[name] = found[name] * 1.01
        if len(place) == 2:
            raise RuntimeError("NCCL\nfailed")
        return found

    monkeypatch.setattr(device_step, "_step_on", wrong)
    first, second = problems(device_step.check_steps(devices))
    assert first.text.startswith("cpu:1: the gradient of ") and "do not train on it" in first.remedy
    assert second.text == "2 devices: a training step fails (RuntimeError: NCCL failed)"


def test_nan_is_a_difference(monkeypatch):
    real = device_step._step_on
    device = jax.devices()[1]
    monkeypatch.setattr(
        device_step,
        "_step_on",
        lambda place, batch: real(place, batch) | ({"loss": np.float32("nan")} if place == [device] else {}),
    )
    (problem,) = problems(device_step.check_steps([device]))
    assert problem.text.startswith("cpu:1: loss differs")


def test_the_cpu_is_allowed_beside_another_platform(monkeypatch):
    changes = {}
    monkeypatch.setattr(device_step.jax, "config", namedtuple("Config", "update")(changes.__setitem__))
    for platforms in ("", "cpu", "cuda,cpu"):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        device_step.allow_cpu()
    assert not changes
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    device_step.allow_cpu()
    assert changes == {"jax_platforms": "cuda,cpu"}


def test_storage_is_measured_and_left_as_it_was(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    found = rows(storage.check_storage(tmp_path))
    assert list(found) == ["directory", "file system", "free space", "write speed"]
    assert " MB/s (" in found["write speed"]
    assert tmp_path.stat().st_mtime_ns == before and not list(tmp_path.iterdir())


@dataclasses.dataclass
class Partition:
    mountpoint: str
    fstype: str


def test_a_network_file_system_is_named(monkeypatch, tmp_path):
    partitions = [Partition("/", "ext4"), Partition(str(tmp_path), "nfs4"), Partition(f"{tmp_path}x", "xfs")]
    monkeypatch.setattr(storage.psutil, "disk_partitions", lambda all: partitions)
    found = list(storage.check_storage(tmp_path))
    assert rows(found)["file system"] == f"nfs4, a network file system (mounted at {tmp_path})"
    assert "config.data.cache=host" in notes(found)[0]


def test_too_little_space_and_a_directory_without_write_access_are_problems(monkeypatch, tmp_path):
    usage = namedtuple("Usage", "total used free")(2**40, 2**40 - 2**20, 2**20)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage)
    (problem,) = problems(storage.check_storage(tmp_path, needed=2**21))
    assert problem.text == f"{tmp_path}: only 1.0 MiB are free, and at least 2.0 MiB are needed to save"

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refused)
    (problem,) = problems(storage.check_storage(Path(tmp_path), needed=0))
    assert problem.text == f"{tmp_path}: no file can be written there (Permission denied)"
