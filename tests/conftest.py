"""The setup of all tests: eight fake CPU devices, and the quickest compilation that XLA offers.

Compilation takes most of the tests' time. It is done without optimization, and all processes of one run of pytest share
a cache of compiled programs.
"""

import atexit
import dataclasses
import importlib.metadata
import os
import shutil
import signal
import tempfile
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

XLA_FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # XLA's older code generation compiles three times as fast; newer versions of jaxlib no longer have it.
    XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(XLA_FLAGS)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="flaxseg-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # A size limit makes jax lock the cache, so that no process reads a program that another is writing.
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = "1000000000"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets its jobs in the background ignore Ctrl-C, and so would all processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--certificate", action="store_true", help="print the promises of docs/reliability.md, with results"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--certificate"):
        return
    from certificate import FIGURE, Outcome, certificate, header

    outcomes = [
        Outcome(report.nodeid, word, tuple(str(value) for name, value in report.user_properties if name == FIGURE))
        for word in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(word, [])
        if word != "passed" or report.when == "call"
    ]
    outcomes = [dataclasses.replace(each, outcome="failed") if each.outcome == "error" else each for each in outcomes]
    terminalreporter.section("certificate")
    terminalreporter.write_line(f"{header()}\n\n{certificate(outcomes)}")


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_data() -> Path:
    """Returns the folder of photographs that may lie beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist, so photographs are not tested")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_without_eviction() -> Iterator[None]:
    """Lets the cache of compiled programs grow: to keep its size, jax reads all its files whenever it adds one."""
    from jax._src import lru_cache

    with unittest.mock.patch.object(lru_cache.LRUCache, "_evict_if_needed"):
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_confusion_figures() -> Iterator[None]:
    """Draws the confusion matrix of each evaluation as an image of its counts, because a figure takes half a second."""
    import numpy as np

    from flaxseg.report import tensorboard

    def drawn(counts: Any, class_names: Any) -> Any:
        percent = 100 * (counts / np.maximum(counts.sum(1, keepdims=True), 1))
        return np.kron(percent.astype(np.uint8)[..., None], np.ones((8, 8, 3), np.uint8))

    with unittest.mock.patch.object(tensorboard, "confusion_figure", drawn):
        yield


@pytest.fixture(scope="module")
def small_encoder() -> Iterator[str]:
    """Adds encoders that compile quickly to ENCODERS, and returns the name of the first there."""
    from small_encoder import SMALL_ENCODER, SMALL_TRANSFORMER

    from flaxseg.models.encoders import ENCODERS

    with unittest.mock.patch.dict(ENCODERS, small=SMALL_ENCODER, small_transformer=SMALL_TRANSFORMER):
        yield "small"
