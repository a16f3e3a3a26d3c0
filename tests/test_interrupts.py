"""Ctrl-C at any time while a command starts ends it with one line, and changes nothing in other programs."""

import random
import signal
import subprocess
import sys

import pytest
from representatives import representatives

ARGUMENTS = {
    "main": ["--config=configs/shapes.py:tiny", "--config.train.steps=1000000"],
    "evaluate": ["runs/none"],
    "predict": ["--model=runs/none", "--input=none", "--output=none"],
    "export": ["--model=runs/none", "--output=none"],
    "inspect_data": ["--help"],
    "lr_find": ["--help"],
}


@pytest.mark.parametrize("command", representatives(ARGUMENTS, ("main", "predict")))
def test_an_interrupt_while_a_command_starts_ends_it_with_one_line(command, tmp_path):
    arguments = [*ARGUMENTS[command], f"--workdir={tmp_path / 'run'}"] if command == "main" else ARGUMENTS[command]
    # Python says which module it imports, so that the moment does not depend on the speed of the machine.
    module = random.Random(command).choice(["optax", "jax._src.api", "flax.linen", "flaxseg.losses", "numpy.random"])
    words = [sys.executable, "-v", "-m", f"flaxseg.{command}", *arguments]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if line.startswith(f"import '{module}'"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest and rest.endswith("\nstopped\n")
    assert not (tmp_path / "run").exists()


PROGRAM = """if True:
    import os, signal, sys
    before = signal.getsignal(signal.SIGINT)
    import flaxseg
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler
"""


def test_importing_the_library_leaves_signals_alone():
    subprocess.run([sys.executable, "-c", PROGRAM, "-m", "flaxseg.main"], check=True)


WAITING = """if True:
    import time
    class Slow:
        def __del__(self):
            print('waiting', flush=True)
            time.sleep(60)
    def get_config(variant=''):
        print('waiting', flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("where", ["a function", "a callback that ignores exceptions"])
def test_after_its_imports_a_command_is_interrupted_as_usual(tmp_path, where):
    program = WAITING
    if where != "a function":
        head, _, tail = WAITING.rpartition("print('waiting', flush=True)")
        program = f"{head}Slow(){tail}"
    (tmp_path / "waiting.py").write_text(program)
    words = [sys.executable, "-m", "flaxseg.lr_find", f"--config={tmp_path / 'waiting.py'}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.startswith("\nstopped") and error.count("\n") == 2
