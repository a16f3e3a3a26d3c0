"""The option --distributed: what it accepts, and that processes join."""

import os
import socket
import subprocess
import sys

import pytest

from flaxseg.errors import ConfigError
from flaxseg.main import main
from flaxseg.train.distributed import Place, join, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1:1234,16,3", ("10.0.0.1", 1234, 16, 3)), ("[::1]:1234,1,0", ("[::1]", 1234, 1, 0))],
)
def test_an_address_a_count_and_a_number_are_read(text, expected):
    assert parse(text) == Place(*expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("host:1234", "must be 'auto' or HOST:PORT,N,I"),
        ("host,2,0", "must be 'auto' or HOST:PORT,N,I"),
        ("host:1234,2,-1", "must be 'auto' or HOST:PORT,N,I"),
        ("host:1234,2,2", "there is no process 2 of 2; the first is 0, the last is 1"),
        ("host:0,2,0", "the port must be 1 to 65535"),
        ("host:70000,2,0", "the port must be 1 to 65535"),
    ],
)
def test_another_form_is_refused(text, problem):
    with pytest.raises(ConfigError, match=f"--distributed='{text}': {problem}"):
        join(text)


def test_the_command_refuses_a_port_in_use(tmp_path, capsys):
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--config=configs/shapes.py:tiny", f"--workdir={tmp_path}", f"--distributed=localhost:{port},2,0"]
        assert main(arguments) == 1
    assert f"error: --distributed: port {port} cannot be used on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_first_process_that_cannot_be_reached_is_named():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"process 0 cannot be reached at localhost:{port} .*; start it"):
        join(f"localhost:{port},2,1", wait_seconds=1)


def test_auto_without_other_processes_says_how_to_start_them(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="=auto: JAX finds no other processes .*; start the command with"):
        join("auto")


@pytest.mark.long
def test_two_processes_of_a_slurm_job_train_as_one_run(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # JAX derives the port from the number of the job.
    job = {"SLURM_JOB_ID": str(port - 61440), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    if not 61440 <= port < 65536:
        job["SLURM_JOB_ID"] = "77"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    command = [sys.executable, "-m", "flaxseg.main", "--config=configs/shapes.py:tiny", "--distributed=auto"]
    command += [f"--workdir={tmp_path}", "--config.train.steps=2", "--config.log.writer=tensorboard"]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | {"XLA_FLAGS": flags} | job | {"SLURM_PROCID": str(index), "SLURM_LOCALID": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    (first, error), (second, other_error) = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], error + other_error
    assert "on 2 x cpu" in error and "train:" in error
    assert f"checkpoints   {tmp_path / 'checkpoints'} (best: step 2, " in first and "class  " in first
    # The second only introduces itself (and Gloo does).
    assert "class  " not in second and "train:" not in other_error
    assert "process 1 of 2; process 0 (" in other_error
