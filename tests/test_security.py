"""What SECURITY.md promises: no network, no unpickling, no code from data, and a test for every row of its table."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = [file for folder in ("flaxseg", "configs", "examples") for file in sorted((ROOT / folder).rglob("*.py"))]

UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code"}
UNSAFE_MODULES |= {"subprocess", "ctypes", "pty", "popen2", "commands"}
UNSAFE_BUILTINS = {"eval", "exec", "__import__"}
UNSAFE_ATTRIBUTES = {"system", "popen", "read_pickle", "to_pickle", "unpack_archive", "extractall", "load_module"}

LOADERS = {"flaxseg/config/files.py": {"run_path"}, "flaxseg/registry.py": {"import_module"}}
"""The only places where code that a user names is run."""

LOADERS |= {"flaxseg/__main__.py": {"import_module"}, "flaxseg/__init__.py": {"import_module"}}
"""The command `flaxseg` and the package load the modules of tables of their own."""

LOADERS |= {"examples/own_dataset.py": {"np.load"}}
"""An example that reads files of the reader's own."""

ALLOWED_MODULES = {
    "examples/segmentation.py": {"subprocess"},
    "flaxseg/host_memory.py": {"ctypes"},
    "flaxseg/train/storage.py": {"ctypes"},
    "flaxseg/train/witness.py": {"subprocess"},
}
"""The only places where functions of the C library are called that Python does not offer (`malloc_trim`, `fallocate`),
and where a program is started: Python with the file itself, and pip in a notebook."""


def unsafe(tree: ast.Module, file: str = "") -> list[str]:
    """Returns what a file contains that could run code or unpickle objects."""
    found, modules = [], UNSAFE_MODULES - ALLOWED_MODULES.get(file, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in modules]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in modules:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            found += unsafe_call(node, LOADERS.get(file, set()))
    return found


def unsafe_call(call: ast.Call, allowed: set[str]) -> list[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    constant = bool(call.args) and isinstance(call.args[0], ast.Constant)
    found = [f"{word.arg}=" for word in call.keywords if word.arg == "allow_pickle" and getattr(word.value, "value", 1)]
    if isinstance(call.func, ast.Name) and name in UNSAFE_BUILTINS:
        found.append(name)
    if isinstance(call.func, ast.Attribute) and name in UNSAFE_ATTRIBUTES:
        found.append(name)
    if (
        name == "load"
        and isinstance(call.func, ast.Attribute)
        and getattr(call.func.value, "id", "") in ("np", "numpy")
    ):
        # It allocates what the file declares, unless it maps the file.
        is_mapped = any(word.arg == "mmap_mode" for word in call.keywords)
        found += ["np.load"] * ("np.load" not in allowed and not is_mapped)
    if name in ("run_path", "run_module", "import_module", "spec_from_file_location", "exec_module"):
        found += [name] * (name not in allowed and not constant)
    if name in ("run", "call", "Popen") and any(word.arg == "shell" for word in call.keywords):
        found.append("shell=")
    return found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from pickle import loads", ["pickle"]),
        ("import numpy as np, yaml", ["yaml"]),
        ("eval('1')", ["eval"]),
        ("exec(text)", ["exec"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle=", "np.load"]),
        ("read(path, allow_pickle=flag)", ["allow_pickle="]),
        ("np.load(path)", ["np.load"]),
        ("os.system('x')", ["system"]),
        ("archive.extractall(folder)", ["extractall"]),
        ("importlib.import_module(name)", ["import_module"]),
        ("runpy.run_path(path)", ["run_path"]),
        ("sub.run(text, shell=True)", ["shell="]),
        ("np.load(path, mmap_mode='r', allow_pickle=False)", []),
        ("importlib.import_module('flaxseg')", []),
        ("import pickletools; ast.literal_eval('1'); net.eval(); re.compile('x')", []),
    ],
)
def test_unsafe_code_is_recognized(line, found):
    assert unsafe(ast.parse(line)) == found


def test_nothing_is_unpickled_and_no_data_is_run():
    assert len(CODE) > 200
    found = {}
    for file in CODE:
        name = file.relative_to(ROOT).as_posix()
        if problems := unsafe(ast.parse(file.read_text(encoding="utf-8")), name):
            found[name] = problems
    assert found == {}
    for name, allowed in (LOADERS | ALLOWED_MODULES).items():
        assert set(unsafe(ast.parse((ROOT / name).read_text(encoding="utf-8")))) == allowed


WITHOUT_NETWORK = """
import os, socket, sys, threading

contacts = []

def watch(event, arguments):
    if not event.startswith(("socket.", "urllib.", "http.")) or event in ("socket.__new__", "socket.gethostname"):
        return
    if getattr(arguments[0], "family", None) == socket.AF_UNIX:
        return
    # urllib3, which TensorFlow imports, tries in this way whether there is IPv6.
    if event == "socket.bind" and arguments[1][0] == "::1":
        return
    contacts.append((event, repr(arguments)))
    raise OSError(f"no network: {event} {arguments}")

sys.addaudithook(watch)
with socket.socket() as opened:
    for attempt in (
        lambda: opened.connect(("127.0.0.1", 9)),
        lambda: opened.bind(("", 0)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.create_connection(("localhost", 80)),
    ):
        try:
            attempt()
        except OSError as error:
            assert str(error).startswith("no network"), error
assert [event for event, _ in contacts] == ["socket.connect", "socket.bind", "socket.getaddrinfo", "socket.getaddrinfo"]
contacts.clear()

import psutil

def sample():
    # Libraries in C and C++ open their sockets without Python's knowledge.
    while not done.wait(0.05):
        contacts.extend(map(repr, psutil.Process().net_connections("inet")))

done = threading.Event()
sampler = threading.Thread(target=sample)
sampler.start()

from flaxseg import evaluate, export, main, predict

folder = sys.argv[1]
keys = ["train.steps=2", "eval.every=2", "train.batch_size=4", "data.image_size=(32,32)", "model.options.width=4"]
keys += ["model.options.depth=1", f"data.dir={folder}", f"log.writer={sys.argv[2]}"]
keys += ["log.images=1"]
run = f"{folder}/run"
try:
    for status in (
        main.main(["--config=configs/folder.py", f"--workdir={run}", *(f"--config.{key}" for key in keys)]),
        evaluate.main([run]),
        predict.main([f"--model={run}", f"--input={folder}/images", f"--output={folder}/masks_found", "--overlay"]),
        export.main([f"--model={run}", f"--output={folder}/exported", "--format=stablehlo"]),
    ):
        assert status == 0
finally:
    done.set()
    sampler.join()
assert contacts == [], contacts
print("tensorflow" in sys.modules)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Returns the process that ran all commands without a network, and the folder of its data and results."""
    folder, rng = tmp_path_factory.mktemp("commands"), np.random.default_rng(0)
    for name, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
        (folder / name).mkdir()
        for index in range(5):
            values = rng.integers(0, 256 if name == "images" else 2, shape, dtype=np.uint8)
            cv2.imwrite(str(folder / name / f"{index}.png"), values)
    arguments = [sys.executable, "-c", WITHOUT_NETWORK, str(folder), "clu"]
    environment = os.environ | {"XLA_FLAGS": re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment), folder


def test_training_evaluation_prediction_and_export_use_no_network(commands):
    done, folder = commands
    assert done.returncode == 0, done.stderr
    # CLU's writer was used, so that TensorFlow is included.
    assert done.stdout.splitlines()[-1] == "True"
    assert list((folder / "run").glob("events.out.tfevents.*"))
    assert len(list((folder / "masks_found" / "masks").iterdir())) == 5
    assert (folder / "exported" / "model.stablehlo").exists()


def test_an_export_names_no_folder_of_the_computer(commands):
    _, folder = commands
    assert str(folder) in (folder / "run" / "config.json").read_text(encoding="utf-8")
    for file in (folder / "exported").iterdir():
        assert str(folder).encode() not in file.read_bytes(), file


PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!threat|-)(.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_threat_table_names_tests():
    assert len(ROWS) > 10
    for threat, _, tests in ROWS:
        assert re.fullmatch(r"`[\w/]+\.py::test_\w+`(, `[\w/]+\.py::test_\w+`)*", tests), threat


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`([\w/]+\.py::test_\w+)`", PAGE))))
def test_the_tests_of_the_threat_table_exist(test):
    file, _, function = test.partition("::")
    path = ROOT / "tests" / file
    defined = {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}
    assert function in defined
