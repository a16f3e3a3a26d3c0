"""Imports point one way, and the importable library works without TensorFlow."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "flaxseg"

FLOORS = {
    "compile_cache errors host_memory interrupts": "",
    "keywords ops registry shapes": "errors",
    "data": "errors keywords registry",
    "metrics": "data.types errors ops shapes",
    "augment losses": "data.types errors ops registry shapes",
    "models": "errors ops registry",
    "optimizers": "errors keywords registry",
    "report": "data errors metrics",
    "inference": "data.types errors metrics models ops registry shapes",
    "config": "augment data errors losses metrics models optimizers registry report",
    "train": "augment config data errors host_memory inference interrupts losses metrics models ops optimizers "
    "registry report shapes",
    "callbacks": "config data errors metrics report train",
    "deploy": "config data errors inference metrics models ops report train",
    "inspection": "config data errors losses models registry report train",
    "diagnosis": "config data deploy errors host_memory inference losses models report train",
    "notebook": "data.types errors report train",
    "commands": "cli compile_cache config data deploy diagnosis errors inference inspection interrupts report train",
}
"""From the ground floor up: for each package or file, what it may import besides itself; equal ones share a row."""

COMMANDS = ("__main__", "cli", "main", "doctor", "evaluate", "export", "inspect_data", "lr_find", "predict")


def floor(module: str) -> str:
    """Returns the entry of FLOORS that a dotted name below flaxseg belongs to."""
    first = module.split(".")[0]
    return "commands" if first in COMMANDS else next((row for row in FLOORS if first in row.split()), first)


def imported(file: Path) -> set[str]:
    """Returns the dotted names below flaxseg that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flaxseg":
            below = node.module.partition(".")[2]
            names |= {below} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("flaxseg.")}
    return names


@functools.cache
def modules() -> dict[str, Path]:
    files = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}
    dotted = {".".join(path.parts).removesuffix(".__init__"): file for path, file in files.items()}
    return {name: file for name, file in dotted.items() if name != "__init__"}


def test_the_package_directory_holds_only_commands_and_packages():
    files = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py"}
    assert files == {
        "__init__.py",
        "compile_cache.py",
        "errors.py",
        "interrupts.py",
        "host_memory.py",
        "keywords.py",
        "notebook.py",
        "registry.py",
        "shapes.py",
        *(f"{name}.py" for name in COMMANDS),
    }


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down(name):
    allowed, own = FLOORS[floor(name)].split(), name.split(".")[0]
    for module in imported(modules()[name]):
        first = module.split(".")[0]
        assert first == own or {first, module} & {*allowed}, f"flaxseg.{name} imports flaxseg.{module}"


def test_nothing_imports_a_floor_above():
    order = list(FLOORS)
    for name, allowed in FLOORS.items():
        below = order[: order.index(name)]
        assert {module.split(".")[0] for module in allowed.split()} <= {*" ".join(below).split(), "cli"}, name


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_everything_loads_no_tensorflow_and_touches_no_device():
    names = ", ".join(f"flaxseg.{name}" for name in modules())
    program = f"import sys, {names}, jax._src.xla_bridge as bridge"
    found = "'tensorflow' in sys.modules, bridge.backends_are_initialized()"
    assert python(f"{program}; print({found})") == "False False\n"


def test_a_step_works_without_tensorflow():
    program = """
import sys
sys.modules["tensorflow"] = None
import runpy
import flaxseg
network = flaxseg.plain_unet
flaxseg.plain_unet = lambda **_: network(num_classes=5, width=2, depth=1)
runpy.run_path("examples/custom_loop.py")["main"](steps=1)
"""
    assert "held-out images" in python(program)
