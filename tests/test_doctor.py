"""The command that examines the installation, the devices and a run; what it finds is tested in diagnosis/."""

import json

import jax
import pytest

from flaxseg.diagnosis import device_step, hardware
from flaxseg.doctor import main


@pytest.fixture
def one_device(monkeypatch):
    for module in (device_step, hardware):
        monkeypatch.setattr(module.jax, "local_devices", lambda: jax.devices()[:1])


def test_the_machine_is_examined_and_nothing_is_left_behind(one_device, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    titles = [section["title"] for section in report["sections"]]
    assert titles == ["versions", "settings", "host", "devices", "training step on each device", "storage"]
    assert not list(tmp_path.iterdir())


def test_a_check_that_fails_is_a_problem_and_not_a_stack_trace(one_device, monkeypatch, capsys):
    def fails():
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setattr(hardware, "check_host", fails)
    assert main(["--skip_devices"]) == 1
    output = capsys.readouterr()
    assert "host\n  PROBLEM: this check failed unexpectedly (OSError: [Errno 5] Input/output error)\n" in output.out
    assert output.out.endswith("1 problem, in: host\n") and not output.err


def test_ctrl_c_ends_it_with_its_status(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(hardware, "check_host", interrupted)
    assert main(["--skip_devices"]) == 130
    assert capsys.readouterr().err == "\nstopped; nothing was changed\n"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main(["--help"])
    assert "flaxseg doctor runs/pet --skip_devices --json > report.json" in capsys.readouterr().out
