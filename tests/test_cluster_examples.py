"""The job files of examples/cluster: what schedulers read in them, and the commands that they run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from flaxseg.main import main
from flaxseg.train.distributed import AUTO, Place, parse

FOLDER = Path("examples/cluster")


def arguments_of(text, **variables):
    """Returns the arguments of the one command of flaxseg in a text, with variables of the shell replaced."""
    text = re.sub(r"\\\n\s*", "", text)
    (command,) = re.findall(r"flaxseg train (.*)", text)
    for name, value in variables.items():
        command = re.sub(rf"\${{?{name}\b}}?", value, command)
    assert "$" not in command
    return shlex.split(command)


def commands():
    slurm, kubernetes, tpu = (
        (FOLDER / name).read_text(encoding="utf-8") for name in ("slurm.sh", "kubernetes.yaml", "tpu_pod.sh")
    )
    (args,) = list(yaml.safe_load_all(kubernetes))[1]["spec"]["template"]["spec"]["containers"][0]["args"]
    return {
        "slurm": arguments_of(slurm, SHARED="/shared"),
        "kubernetes": arguments_of(args, JOB_COMPLETION_INDEX="3"),
        "tpu_pod": arguments_of(tpu, HOME="/home/me"),
    }


@pytest.mark.parametrize("scheduler", ["slurm", "kubernetes", "tpu_pod"])
def test_the_command_has_a_valid_configuration(scheduler, capsys):
    assert main([*commands()[scheduler], "--print_config"]) == 0
    assert "train.batch_size = " in capsys.readouterr().out


@pytest.mark.parametrize(("scheduler", "devices"), [("slurm", 8), ("kubernetes", 32), ("tpu_pod", 64)])
def test_the_batches_divide_over_the_devices(scheduler, devices):
    sizes = dict(
        argument.removeprefix("--config.").split("=") for argument in commands()[scheduler] if "batch_size" in argument
    )
    assert [int(sizes[f"{name}.batch_size"]) % devices for name in ("train", "eval")] == [0, 0]


def test_processes_find_one_another():
    found = {
        name: argument.partition("=")[2]
        for name, command in commands().items()
        for argument in command
        if argument.startswith("--distributed=")
    }
    assert found["slurm"] == found["tpu_pod"] == AUTO
    assert parse(found["kubernetes"]) == Place("flaxseg-0.flaxseg", 1234, 4, 3)


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_pod.sh"])
def test_the_shell_understands_the_script(name):
    checked = subprocess.run(["bash", "-n", FOLDER / name], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_slurm_signals_the_run_before_its_time_is_over():
    lines = (FOLDER / "slurm.sh").read_text(encoding="utf-8").splitlines()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", "\n".join(lines), re.MULTILINE))
    assert options["signal"] == "USR1@120" and "requeue" in options
    assert int(options["ntasks-per-node"]) == int(options["gpus-per-node"])
    # SLURM ignores options after the first command.
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_slurm_starts_a_stopped_run_again(tmp_path):
    """With programs in the place of SLURM's: `srun` ends with the status of a run that SIGUSR1 stopped."""
    for name, body in (("srun", 'exit "$STATUS"'), ("scontrol", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for status, output in (("138", "requeue 7\n"), ("0", ""), ("1", "")):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STATUS": status, "SLURM_JOB_ID": "7"}
        environment["SLURM_SUBMIT_DIR"] = "/shared"
        job = subprocess.run(
            ["bash", FOLDER / "slurm.sh"], env=environment, capture_output=True, text=True, check=False
        )
        assert (job.returncode, job.stdout) == (int(status), output)


def test_every_pod_has_a_name_and_a_number():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    # A pod of an indexed Job has its number in JOB_COMPLETION_INDEX, and is called JOB-NUMBER.SUBDOMAIN.
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 4
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["restartPolicy"] in ("OnFailure", "Never")
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
