"""The measurements of an accelerator, in tiny forms, and what is reported where the time is over."""

import json
import subprocess
import sys

import pytest
from budget import Budget, Outcome
from measuring import ROOT, environment

from benchmarks import accelerator, accelerator_parts

SETTINGS = accelerator.QUICK._replace(sizes=(32, 64), batches=(8, 4))


def outcomes(**others):
    """Returns the outcomes of a run, of which only some parts succeeded."""
    step = {"train": {"wall_min": 0.5, "gflop": 100.0}, "infer": {"wall_min": 0.1, "gflop": 30.0}}
    peer = {"train": {"wall_min": 1.0}, "infer": {"wall_min": 0.05}}
    names = [f"{name} flaxseg" for name in accelerator.NETWORKS] + ["epochs", "forms"]
    found = {name: Outcome([], "skipped: 3 s left") for name in names}
    found |= {
        f"{mode} {run}": Outcome([{"digest": "d", "ms_per_step": 2.0}], "")
        for mode in accelerator.MODES
        for run in (0, 1)
    }
    found["matmul"] = Outcome([{"tflops": 0.5, "device": "chip", "jax": "1"}], "")
    found["unet flaxseg"] = Outcome([step], "stopped after 60 s")
    found["unet PyTorch"] = Outcome([peer, peer], "")
    return found | others


def test_rates_are_relative_to_the_peer_and_to_matrix_products():
    rows = accelerator.network_rows(outcomes(), SETTINGS, accelerator.NETWORKS)
    assert len(rows) == 6
    # 100 GFLOP in 0.5 s are 200 of 500 GFLOP/s.
    assert rows[0] == ["`unet-resnet34`", "8, 32", 16.0, 2.0, "40%", 80.0, 0.5, "60%"]
    assert rows[1][2:5] == ["stopped after 60 s", "", ""]
    assert rows[2][2:5] == ["skipped: 3 s left", "", ""]

    ours = {"deeplabv3plus flaxseg": outcomes()["unet flaxseg"]}
    assert (
        accelerator.network_rows(outcomes(**ours), SETTINGS, accelerator.NETWORKS)[2][3] == "PyTorch is not installed"
    )


def test_other_rows_report_equality_and_cost():
    changed = {"default 1": Outcome([{"digest": "e", "ms_per_step": 2.0}], "")}
    changed["deterministic 0"] = Outcome([{"digest": "d", "ms_per_step": 2.5}], "")
    rows = {row[0]: row[2] for row in accelerator.other_rows(outcomes(**changed))}
    assert rows["two runs, default operations"] == "no"
    assert rows["two runs, deterministic operations"] == "yes"
    assert rows["rate with deterministic operations"] == 0.8
    assert rows["operations of `flaxseg.ops`"] == "skipped: 3 s left"
    missing = accelerator.other_rows(outcomes(**{"default 1": Outcome([], "failed: no memory")}))
    assert ["two runs, default operations", "equal to the last bit", "failed: no memory"] in missing


def test_time_that_is_left_is_divided_among_the_rest():
    now = 0.0
    budget = Budget(100.0, {"a": 1, "b": 3, "c": 1}, clock=lambda: now)
    assert budget.share("a") == 20
    now = 10.0
    assert budget.share("b") == pytest.approx(90 * 3 / 4)
    now = 96.0
    assert budget.run("c", ["never started"]) == Outcome([], "skipped: 4 s left")


def test_what_a_command_printed_before_its_deadline_is_kept():
    code = "import json, time; print(json.dumps({'n': 1}), flush=True); time.sleep(60)"
    budget = Budget(1.0, {"slow": 1}, least=0.5)
    assert budget.run("slow", [sys.executable, "-S", "-c", code]) == Outcome([{"n": 1}], "stopped after 1 s")


def test_a_command_that_fails_is_reported_with_its_last_line():
    budget = Budget(60.0, {"bad": 1})
    found = budget.run("bad", [sys.executable, "-S", "-c", "raise ValueError('out | of memory')"])
    assert found == Outcome([], "failed: ValueError: out / of memory")


def test_the_script_writes_json_and_markdown_and_overwrites_nothing(tmp_path):
    # Instead of measuring, this interpreter prints a result and its arguments.
    found = {"title": "Accelerator: chip", "parts": [{"text": "options: $2 $3"}]}
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
case $1 in
  */accelerator.py) cat <<END
{json.dumps(found)}
END
  ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
    )
    python.chmod(0o755)
    command = [ROOT / "benchmarks" / "accelerator.sh", tmp_path / "out", "--seconds", "5"]
    variables = environment({"PYTHON": str(python)})
    subprocess.run(command, check=True, env=variables, capture_output=True)
    assert json.loads((tmp_path / "out.json").read_text())["parts"] == [{"text": "options: --seconds 5"}]
    assert (tmp_path / "out.md").read_text() == "## Accelerator: chip\n\noptions: --seconds 5\n\n"
    again = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert again.returncode == 1 and "out.json exists; give another name" in again.stderr


def test_matrix_products_have_a_rate():
    found = accelerator_parts.matmul(64, 2)
    assert found["platform"] == "cpu" and found["tflops"] > 0


@pytest.mark.long
def test_ours_and_plain_forms_compute_the_same():
    import jax
    import numpy as np

    for name, form in accelerator_parts.FORMS.items():
        keys = jax.random.split(jax.random.key(0), 3)
        arguments = [jax.random.normal(key, shape) for key, shape in zip(keys, form.shapes(2, 8), strict=False)]
        ours, plain = form.ours(*arguments), form.plain(*arguments)
        np.testing.assert_allclose(ours, plain, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.long
def test_every_part_runs_in_a_tiny_form():
    found = accelerator.measure(accelerator.QUICK, {"plain_unet": ""}, seconds=400, peer="")
    assert found["title"] == "Accelerator: cpu"
    reasons = {name: outcome["reason"] for name, outcome in found["data"].items()}
    assert set(reasons.values()) == {""}, reasons
    networks, others = found["parts"][1]["rows"], {row[0]: row[2] for row in found["parts"][3]["rows"]}
    assert networks[0][2] > 0 and networks[0][3] == "PyTorch is not installed"
    assert others["two runs, deterministic operations"] == "yes"
    assert others["an epoch in one program, `data.cache=device`"]["median"] > 0
    assert {f"{name}, gradient" for name in accelerator_parts.FORMS} <= set(others)
