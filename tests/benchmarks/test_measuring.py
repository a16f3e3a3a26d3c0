"""What the benchmarks share: ratios with their spread, alternating processes, and the form of a result."""

import json
import sys

import pytest
from measuring import alternate, command_line, print_result, ratios, result, run, spread, table


def test_a_spread_has_the_median_the_lowest_and_the_highest():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}
    assert spread([4.0, 1.0, 2.0, 3.0]) == {"median": 2.5, "lowest": 1.0, "highest": 4.0}
    # The median of the ratios, not the ratio of the medians.
    assert ratios([2.0, 3.0, 8.0], [1.0, 6.0, 2.0]) == {"median": 2.0, "lowest": 0.5, "highest": 4.0}
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_processes_take_turns(tmp_path):
    log = tmp_path / "log"
    code = "import json, sys; open(sys.argv[1], 'a').write(sys.argv[2]); print('note'); print(json.dumps({'n': 1}))"
    sides = {name: [sys.executable, "-c", code, str(log), name] for name in ("a", "b")}
    assert alternate(sides, 2) == {"a": [{"n": 1}] * 2, "b": [{"n": 1}] * 2}
    assert log.read_text() == "abab"


def test_a_command_that_fails_is_reported_with_its_error():
    with pytest.raises(RuntimeError, match=r"status 3[\s\S]*went wrong"):
        run([sys.executable, "-c", "import sys; print('went wrong', file=sys.stderr); sys.exit(3)"])


def test_a_command_is_recorded_without_paths_of_the_machine(tmp_path):
    python = tmp_path / "python3"
    python.touch(0o755)
    words = ["/a/step.py", "--peer", str(python), f"--data={tmp_path}", "--size", "32", "--optimizer", "a/b"]
    assert command_line(words) == "python benchmarks/step.py --peer PYTHON --data=DIR --size 32 --optimizer a/b"


def test_a_result_is_printed_as_json(capsys):
    rows = [["unet", spread([1.0]), None], ["x" * 200, 2.5, "a"]]
    found = result("Title", [table(["a", "b", "c"], rows)], versions=["jax 1", "jax 1", "torch 2"], data=[1])
    print_result(found)
    printed = capsys.readouterr().out
    assert json.loads(printed) == found
    assert max(len(line) for line in printed.splitlines() if "x" * 200 not in line) <= 120
    assert found["versions"] == "jax 1, torch 2"
    assert found["parts"][0]["rows"] == rows
