"""Imports point one way, and the importable library works without TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "flaxseg"

MAY_IMPORT = {
    "errors": set(),
    "data.batch": {"errors"},
    "lookup": {"errors"},
    "ops": {"ops"},
    "data": {"data", "errors"},
    "models": {"models", "ops", "errors", "lookup"},
    "losses": {"losses", "data.batch", "errors", "lookup", "ops"},
    "metrics": {"data.batch", "errors", "metrics", "ops"},
    "geometry": {"data.batch", "errors", "ops"},
    "color": {"errors", "geometry", "lookup"},
    "augment": {"color", "data.batch", "errors", "geometry", "ops"},
    "optimizers": {"errors", "lookup", "optimizers"},
    "forward": {"models", "optimizers"},
    "hard_examples": {"data.batch", "losses"},
    "class_weights": {"data", "errors"},
    "step_metrics": {"hard_examples", "metrics"},
    "train_step": {"augment", "data.batch", "forward", "hard_examples", "losses", "metrics", "ops", "optimizers",
                   "step_metrics"},
    "sharding": {"data.batch", "errors"},
    "device_cache": {"data", "errors", "sharding"},
    "checkpoints": {"errors"},
    "workdir": {"data.batch", "errors"},
    "pictures": {"data.batch"},
    "summaries": {"data.batch", "metrics", "pictures"},
    "progress": {"errors", "hard_examples", "step_metrics"},
    "config": set(),
    "value_checks": {"class_weights", "color", "geometry", "lookup", "metrics"},
    "validation": {"config", "data", "errors", "losses", "lookup", "models", "optimizers", "value_checks"},
    "config_files": {"config", "errors", "lookup", "validation"},
    "start": {"checkpoints", "errors", "experiment", "models", "optimizers", "sharding", "train_step"},
    "inputs": {"augment", "data", "device_cache", "errors", "lookup"},
    "experiment": {"augment", "class_weights", "data", "device_cache", "errors", "inputs", "losses", "lookup", "models",
                   "optimizers", "sharding", "train_step"},
    "stopping": set(),
    "compiled": {"data.batch", "device_cache", "experiment", "sharding", "train_step"},
    "train": {"checkpoints", "class_weights", "color", "compiled", "config", "data", "experiment", "hard_examples",
              "metrics", "progress", "sharding", "start", "stopping", "summaries", "train_step", "validation",
              "workdir"},
    "lr_range": {"errors", "pictures"},
    "lr_find": {"compiled", "config_files", "data", "errors", "experiment", "flags", "lr_range", "pictures", "start",
                "validation"},
    "flags": {"errors"},
    "inspection": {"class_weights", "data", "errors", "experiment", "inputs", "inspection", "lookup", "losses",
                   "models", "pictures"},
    "main": {"config", "config_files", "flags", "train", "validation"},
    "inspect_data": {"config_files", "errors", "flags", "inspection", "pictures", "validation"},
}  # fmt: skip
"""For each file or folder, what it may import. Nothing imports `train` but `main`."""


def group(module: str) -> str:
    """Returns the entry of MAY_IMPORT that a dotted name below flaxseg belongs to."""
    return "data.batch" if module == "data.batch" else module.split(".")[0]


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flaxseg":
            below = node.module.partition(".")[2]
            names |= {group(below)} if below else {group(alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {group(alias.name.partition(".")[2]) for alias in node.names if alias.name.startswith("flaxseg.")}
    return names


def modules() -> dict[str, Path]:
    files = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}
    dotted = {".".join(path.parts).removesuffix(".__init__"): file for path, file in files.items()}
    return {name: file for name, file in dotted.items() if name != "__init__"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name):
    allowed = MAY_IMPORT[group(name)]
    wrong = imported(modules()[name]) - allowed - ({"data.batch"} if "data" in allowed else set())
    assert not wrong, f"flaxseg.{name} imports {wrong}; it may import {MAY_IMPORT[group(name)]}"


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_everything_loads_no_tensorflow():
    names = ", ".join(f"flaxseg.{name}" for name in modules())
    assert python(f"import sys, {names}; print('tensorflow' in sys.modules)") == "False\n"


def test_importing_touches_no_device():
    program = "import flaxseg, jax._src.xla_bridge as bridge; print(bridge.backends_are_initialized())"
    assert python(program) == "False\n"


def test_a_step_works_without_tensorflow():
    program = """
import sys
sys.modules["tensorflow"] = None
import runpy
runpy.run_path("examples/custom_loop.py")["main"](steps=1)
"""
    assert "held-out pictures" in python(program)
