"""The command `flaxseg`, which stands for all others."""

import argparse
import importlib
import subprocess
import sys

import pytest

from flaxseg.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_describes_itself(name, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith("usage: python -m flaxseg.")


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


def test_the_package_runs_as_a_module():
    ran = subprocess.run([sys.executable, "-m", "flaxseg", "nothing"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "") and "Traceback" not in ran.stderr
