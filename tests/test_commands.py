"""The command `flaxseg`, which stands for all others."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import flaxseg
from flaxseg.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_describes_itself(name, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: flaxseg {name} ") and f"\n  flaxseg {name}" in shown
    assert "python -m" not in shown


def test_arguments_are_passed_on(capsys, monkeypatch):
    given = []
    module = argparse.Namespace(main=lambda argv: given.append(argv) or 7)
    monkeypatch.setattr(importlib, "import_module", lambda name: {"flaxseg.main": module}[name])
    assert main(["train", "--config=pet:small", "--config.seed", "3"]) == 7
    assert given == [["--config=pet:small", "--config.seed", "3"]]


def test_the_commands_are_listed(capsys):
    assert main([]) == main(["--help"]) == 0
    assert "  lr-find    find a learning rate\n" in capsys.readouterr().out


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("error: flaxseg trian: no such command; did you mean 'train'?\n")


@pytest.mark.parametrize(("safe", "status"), [("", 0), ("1", 1)])
def test_modules_of_the_current_folder_are_found(safe, status, tmp_path):
    """By the console script, whose own folder Python searches instead; not with PYTHONSAFEPATH=1."""
    (tmp_path / "mine.py").write_text("def squared(logits, label): ...\n")
    script = tmp_path / "bin" / "flaxseg"
    script.parent.mkdir()
    script.write_text("import sys\nfrom flaxseg.__main__ import main\nsys.exit(main())\n")
    words = ["train", "--config=shapes", "--config.loss.mine:squared=0.5", "--print_config"]
    environment = os.environ | {"PYTHONSAFEPATH": safe, "PYTHONPATH": str(Path(flaxseg.__file__).parent.parent)}
    ran = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert ran.returncode == status, ran.stderr
    assert ("module 'mine' cannot be imported" in ran.stderr) == bool(safe)


def test_the_package_runs_as_a_module():
    ran = subprocess.run([sys.executable, "-m", "flaxseg", "nothing"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "") and "Traceback" not in ran.stderr
