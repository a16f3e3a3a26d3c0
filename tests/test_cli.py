"""The code shared by the commands: configuration keys as flags, help on keys, and the exit status."""

import subprocess
import sys

import pytest

from flaxseg.cli import config_parser, exit_status, parse, run_name
from flaxseg.errors import DataError


def parsed(*words):
    return parse(config_parser("command", description="what it does", epilog="examples"), words)


def help_of(capsys, *words):
    """Returns the exit status, output and errors of a command that prints help."""
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    return stopped.value.code, *capsys.readouterr()


def test_keys_are_separated_from_the_commands_own_arguments():
    arguments, overrides = parsed("--config.a.b=1=2", "--config=f.py:small", "--verbose", "--config.c", "x y")
    assert (arguments.config, arguments.verbose) == ("f.py:small", True)
    assert overrides == ["a.b=1=2", "c=x y"]


@pytest.mark.parametrize("words", [["--config=f.py", "--config.a"], ["--config=f.py", "--unknown"], []])
def test_wrong_arguments_end_with_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    assert stopped.value.code == 2
    assert "usage: command" in capsys.readouterr().err


def test_help_on_keys_needs_no_configuration(capsys):
    status, output, error = help_of(capsys, "--help_config")
    assert (status, error) == (0, "")
    assert "seed" in output and "mesh.spatial" in output
    status, output, _ = help_of(capsys, "--help_config", "optimizer")
    assert status == 0 and "optimizer.learning_rate" in output and "mesh.spatial" not in output


def test_help_on_options_follows_the_configuration_and_its_overrides(capsys):
    assert "The options of data.name = 'shapes'" in help_of(capsys, "--help_config=data.options")[1]
    words = ("--help_config=data.options", "--config=configs/folder.py:binary")
    status, output, _ = help_of(capsys, *words)
    assert status == 0 and "The options of data.name = 'folder'" in output and "mask_suffix" in output
    output = help_of(capsys, *words, "--config.data.name=voc")[1]
    assert "The options of data.name = 'voc'" in output and "mask_suffix" not in output
    assert "The options of model.name = 'fpn'" in help_of(
        capsys, "--help_config", "model.options", "--config.model.name=fpn"
    )[1]  # fmt: skip


def test_help_on_an_unknown_key_is_an_error(capsys):
    assert help_of(capsys, "--help_config", "optimzer") == (
        1, "", "error: --help_config optimzer: no such section or key; did you mean 'optimizer'?\n",
    )  # fmt: skip
    status, output, error = help_of(capsys, "--help_config", "--config=configs/no.py")
    assert (status, output) == (1, "") and "there is no file configs/no.py" in error


def test_help_piped_into_head_prints_no_error():
    command = f"{sys.executable} -m flaxseg.main --help_config | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_output_that_nothing_reads_is_one_status_and_no_error():
    program = (
        "import sys; from flaxseg import cli; sys.exit(cli.exit_status(lambda: print('x' * 10**6), interrupted=''))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)
    process.stderr.close()


def test_exit_statuses_and_messages(capsys):
    def fails(error):
        raise error

    assert exit_status(lambda: 7, interrupted="stopped") == 7
    assert exit_status(lambda: fails(DataError("no folder")), interrupted="stopped") == 1
    assert exit_status(lambda: fails(KeyboardInterrupt()), interrupted="stopped") == 130
    assert capsys.readouterr().err == "error: no folder\n\nstopped\n"
    with pytest.raises(KeyError):
        exit_status(lambda: fails(KeyError("a mistake in code")), interrupted="stopped")


def test_a_run_is_named_after_its_configuration():
    assert run_name("configs/pet.py") == "pet"
    assert run_name("configs/pet.py:small/er 2") == "pet-small-er-2"


@pytest.mark.parametrize("path", ["a" * 300, "file/below"])
def test_a_path_that_cannot_be_used_is_one_line(tmp_path, path, capsys):
    (tmp_path / "file").write_text("")
    assert exit_status(lambda: len((tmp_path / path).read_bytes()), interrupted="") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / path}: ") and error.count("\n") == 1
    assert "check the path, whether it should be a file or a folder, its permissions, and the free space" in error


def test_errors_that_name_no_file_are_not_hidden():
    def fail():
        raise ConnectionResetError("by a test")

    with pytest.raises(ConnectionResetError):
        exit_status(fail, interrupted="")
