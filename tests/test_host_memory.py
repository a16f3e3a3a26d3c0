"""Commands start again to get large pages, once, and only where that helps."""

import os
import subprocess
import sys

import pytest

from flaxseg import host_memory

NEW, OLD = (2, 36), (2, 31)


@pytest.mark.parametrize(
    ("mode", "version", "environment", "expected"),
    [
        ("madvise", NEW, {}, True),
        ("madvise", NEW, {"GLIBC_TUNABLES": ""}, False),
        ("madvise", NEW, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, False),
        ("madvise", OLD, {}, False),
        ("madvise", (), {}, False),
        ("always", NEW, {}, False),
        ("never", NEW, {}, False),
        ("", NEW, {}, False),
    ],
)
def test_a_program_starts_again_only_where_that_helps(monkeypatch, mode, version, environment, expected):
    calls = []
    monkeypatch.setattr(host_memory, "_kernel_mode", lambda: mode)
    monkeypatch.setattr(host_memory, "_library_version", lambda: version)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    host_memory.restart_with_large_pages()
    again = (sys.executable, [sys.executable, *sys.orig_argv[1:]], {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
    assert calls == ([again] if expected else [])


def test_the_modes_and_versions_are_read(monkeypatch, tmp_path):
    monkeypatch.setattr(host_memory, "_KERNEL_MODE", tmp_path / "enabled")
    assert host_memory._kernel_mode() == ""
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    assert host_memory._kernel_mode() == "madvise"
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    assert host_memory._library_version() == (2, 36)
    monkeypatch.setattr(os, "confstr", lambda name: None, raising=False)
    assert host_memory._library_version() == ()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("always", None, "large, as the kernel gives them to all programs"),
        ("madvise", "glibc.malloc.hugetlb=1", "large, set by flaxseg (GLIBC_TUNABLES)"),
        ("madvise", "glibc.malloc.hugetlb=1:a=1", "large, because of GLIBC_TUNABLES=glibc.malloc.hugetlb=1:a=1"),
        ("madvise", None, "small"),
        ("never", "glibc.malloc.hugetlb=1", "small"),
    ],
)
def test_the_size_of_pages_is_explained(monkeypatch, mode, value, expected):
    monkeypatch.setattr(host_memory, "_kernel_mode", lambda: mode)
    monkeypatch.setattr(os, "environ", {} if value is None else {"GLIBC_TUNABLES": value})
    assert host_memory.page_size() == expected


@pytest.mark.parametrize("value", [pytest.param(None, marks=pytest.mark.long), "glibc.malloc.check=0"])
def test_a_command_keeps_its_arguments_and_its_process(value):
    environment = {name: text for name, text in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {} if value is None else {"GLIBC_TUNABLES": value}
    words = [sys.executable, "-v", "-m", "flaxseg", "no such command"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        errors = process.stderr.read()
    starts = errors.count("import 'flaxseg.host_memory'")
    again = value is None and host_memory._are_on_request(environment)
    assert starts == 1 + again and process.returncode == 2
    assert "error: flaxseg no such command: no such command" in errors


def test_programs_that_import_the_library_are_left_alone():
    environment = {name: text for name, text in os.environ.items() if name != "GLIBC_TUNABLES"}
    program = "import os, flaxseg; assert 'GLIBC_TUNABLES' not in os.environ"
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_freed_memory_is_given_back():
    program = """if True:
        import gc
        from flaxseg import host_memory
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        # Blocks that are too small for mappings of their own; the last one keeps the library from trimming by itself.
        blocks = [bytearray(2**16) for _ in range(2**11)]
        kept = bytearray(2**16)
        before = resident()
        del blocks
        host_memory.give_back()
        assert before - resident() > 2**26, (before, resident())
    """
    if not host_memory._library_version():
        pytest.skip("another C library")
    subprocess.run([sys.executable, "-c", program], check=True)
