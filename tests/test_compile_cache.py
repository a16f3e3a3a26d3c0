"""Where the commands keep compiled programs, and that they are found again."""

import os
import subprocess
import sys

from flaxseg import compile_cache

PROGRAM = """
import jax
from flaxseg import compile_cache

compile_cache._MIN_COMPILE_SECONDS = 0
compile_cache.enable()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
for _ in range(2):
    print(jax.jit(lambda x: x * 3)(7), len(hits))
    jax.clear_caches()
"""


def run(home, **variables):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "XDG_"))}
    inherited = {name: value for name, value in inherited.items() if not name.startswith("JAX_PERSISTENT")}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | {"HOME": str(home)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split(), ran.stderr


def programs(directory):
    return sorted(path.name for path in directory.rglob("*-cache"))


def test_a_program_is_compiled_once(tmp_path):
    (first, no_hits, second, hits), error = run(tmp_path)
    assert (first, second) == ("21", "21") and int(no_hits) == 0 and int(hits) > 0
    assert error == ""
    (folder,) = (tmp_path / ".cache" / "flaxseg").iterdir()
    assert folder.name.startswith("programs-") and programs(folder)


def test_jax_decides_where_the_cache_is(tmp_path):
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run(tmp_path / "home", **own)
    assert programs(tmp_path / "own") and not (tmp_path / "home").exists()


def test_without_a_directory_that_can_be_written_to_there_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_cache._directory() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compile_cache._directory().parent == tmp_path / "flaxseg"
