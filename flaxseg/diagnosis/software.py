"""The versions of flaxseg and of the packages that it uses, and the settings of the environment that affect them."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator

from flaxseg.diagnosis.findings import Finding, Note, Row
from flaxseg.inference.description import installed_versions

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "clu", "numpy", "opencv-python-headless", "pillow",
    "tifffile", "tensorflow-datasets", "tensorboard",
)  # fmt: skip
_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
_EXTRAS = {
    "tiff": ("imagecodecs",),
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow-skinny",),
    "cuda12": ("jax-cuda12-plugin",),
    "cuda13": ("jax-cuda13-plugin",),
    "tpu": ("libtpu",),
}
"""The packages that each extra of flaxseg installs, as in `pip install 'flaxseg[tiff]'`."""

_VARIABLES = (
    "JAX_PLATFORMS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64",
    "JAX_DISABLE_JIT", "JAX_DEBUG_NANS", "JAX_COMPILATION_CACHE_DIR", "NVIDIA_TF32_OVERRIDE", "HF_HUB_OFFLINE",
)  # fmt: skip

_EFFECTS = {
    "JAX_DISABLE_JIT": "nothing is compiled, so training is many times slower; unset it",
    "JAX_DEBUG_NANS": "every step waits for a check of its results, so training is slower; unset it unless you need it",
    "JAX_ENABLE_X64": "flaxseg computes in float32; unset it, as other arrays may take twice the memory",
}
"""What a variable that is on does to training."""


def check_versions() -> Iterator[Finding]:
    """Yields the versions of Python, flaxseg and the packages that it uses."""
    yield Row("flaxseg", installed_versions()["flaxseg"])
    yield Row("Python", f"{platform.python_version()} ({sys.executable})")
    yield Row("system", platform.platform())
    for name in _PACKAGES:
        yield Row(name, _version(name) or "not installed")
    tensorflow = [f"{version} ({name})" for name in _TENSORFLOW if (version := _version(name))]
    yield Row("TensorFlow", ", ".join(tensorflow) or "not installed; only preparing a tfds dataset needs it")
    for extra, packages in _EXTRAS.items():
        found = {name: _version(name) for name in packages}
        versions = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
        yield Row(f"extra {extra}", versions if any(found.values()) else "not installed")


def check_settings() -> Iterator[Finding]:
    """Yields the environment variables that affect JAX and downloads, if they are set."""
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if not given:
        yield Row("environment", f"none of {', '.join(_VARIABLES)} is set")
    for name, value in given.items():
        yield Row(name, value)
        if name in _EFFECTS and value.lower() not in ("0", "false", "off", "no"):
            yield Note(f"{name}={value}: {_EFFECTS[name]}")


def _version(package: str) -> str:
    """Returns the version of an installed package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
