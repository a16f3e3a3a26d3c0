"""A witness says why its process was aborted, and nothing otherwise."""

import json
import socket
import subprocess
import sys

from flaxseg.train import witness

KNOWN = json.dumps({"own": "process 1 (b, process id 8)", "first": "process 0 (a, process id 7)", "step": 41})


def error_of(address, *lines):
    command = [sys.executable, "-I", "-S", witness.__file__, address]
    ran = subprocess.run(
        command, input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, check=True
    )
    assert ran.stdout == ""
    return ran.stderr


def test_a_process_whose_first_one_has_ended_is_explained():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
        assert error_of(address, KNOWN.replace("41", "40"), KNOWN) == (
            "\nerror: process 1 (b, process id 8) was aborted, because process 0 (a, process id 7), which coordinates "
            "the processes, has ended; its last known step was 41. Repeat the command in all processes to resume\n"
        )


def test_a_process_that_ends_while_the_first_one_lives_is_not_explained():
    with socket.create_server(("localhost", 0)) as first:
        assert error_of(f"localhost:{first.getsockname()[1]}", KNOWN) == ""


def test_a_process_that_has_said_why_it_ends_is_not_explained():
    assert error_of("localhost:1", KNOWN, "done") == error_of("localhost:1") == ""


def test_a_witness_ends_when_it_is_dismissed():
    found = witness.Witness("localhost:1")
    process = found._process
    found.tell(own="process 1", first="process 0", step=3)
    found.dismiss()
    assert process.returncode == 0
    found.tell(own="process 1", first="process 0", step=4)  # Nothing is left that could be told.
    found.dismiss()
