"""What the commands share: keys set on the command line, and the status that they end with."""

import pytest

from flaxseg.cli import config_parser, exit_status, parse, run_name
from flaxseg.errors import DataError


def parsed(*words):
    return parse(config_parser("command", description="what it does", epilog="examples"), words)


def test_keys_are_taken_apart_from_the_commands_own_arguments():
    arguments, overrides = parsed("--config.a.b=1=2", "--config=f.py:small", "--verbose", "--config.c", "x y")
    assert (arguments.config, arguments.verbose) == ("f.py:small", True)
    assert overrides == ["a.b=1=2", "c=x y"]


@pytest.mark.parametrize("words", [["--config=f.py", "--config.a"], ["--config=f.py", "--unknown"], []])
def test_wrong_arguments_end_with_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    assert stopped.value.code == 2
    assert "usage: command" in capsys.readouterr().err


def test_the_status_and_message_of_each_end(capsys):
    def fails(error):
        raise error

    assert exit_status(lambda: 7, interrupted="stopped") == 7
    assert exit_status(lambda: fails(DataError("no folder")), interrupted="stopped") == 1
    assert exit_status(lambda: fails(KeyboardInterrupt()), interrupted="stopped") == 130
    assert capsys.readouterr().err == "error: no folder\n\nstopped\n"
    with pytest.raises(KeyError):
        exit_status(lambda: fails(KeyError("a mistake in code")), interrupted="stopped")


def test_the_name_of_a_run():
    assert run_name("configs/pet.py") == "pet"
    assert run_name("configs/pet.py:small/er 2") == "pet-small-er-2"
