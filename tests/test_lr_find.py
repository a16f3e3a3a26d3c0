"""The command flaxseg.lr_find: the files it writes, its suggestion, and invalid flags."""

import csv

import numpy as np
import pytest

from flaxseg.lr_find import main


def test_the_command_writes_a_plot_and_losses_and_suggests_a_rate(tmp_path, capsys):
    flags = ["--config=configs/shapes.py:tiny", f"--output={tmp_path}", "--steps=12", "--highest=0.1"]
    assert main(flags) == 0
    text = capsys.readouterr().out
    assert "suggests --config.optimizer.learning_rate=" in text
    assert {file.name for file in tmp_path.iterdir()} == {"learning_rates.png", "learning_rates.csv"}
    with (tmp_path / "learning_rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, np.geomspace(1e-6, 0.1, 12), rtol=1e-6)
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[1]["loss"]), rel=0.2)


def test_an_output_that_cannot_be_created_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--config=configs/shapes.py:tiny", f"--output={tmp_path}/file/x"]) == 1
    assert f"--output={tmp_path}/file/x: the directory cannot be created" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--lowest=2", "--lowest=2 --highest=1: must be above 0 and finite, the lower rate first"),
        ("--steps=3", "--steps=3: must be at least 10"),
    ],
)
def test_invalid_flags(flag, message, capsys):
    assert main(["--config=configs/shapes.py:tiny", flag]) == 1
    assert message in capsys.readouterr().err
