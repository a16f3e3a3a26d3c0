"""The learning-rate range test: what it suggests of a loss that is known, where it stops, and the command."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import TrainingError
from flaxseg.lr_find import main
from flaxseg.train.lr_range import range_test, rising


def range_of(loss_of):
    """The range test of a loss that depends on the rate alone, from 1e-6 to 100, ten steps to a factor of ten."""
    steps, taken = 81, []
    schedule = rising(1e-6, 100.0, steps)

    def step(number, batch):
        taken.append(float(schedule(number)))
        return number + 1, jnp.float32(loss_of(taken[-1]))

    found = range_test(step, 0, iter(range(steps)), lowest=1e-6, highest=100.0, steps=steps)
    np.testing.assert_allclose(found.rates, taken[: len(found.rates)], rtol=1e-4)
    return found


def test_a_loss_that_falls_around_one_rate_and_rises_again():
    # Half of its fall is at 1e-3; from 0.1 on it rises. In between it is lowest.
    found = range_of(lambda rate: 2 - 1 / (1 + (1e-3 / rate) ** 2) + (rate / 3) ** 2)
    assert 0.7e-3 < found.steepest < 1.4e-3
    lowest = min(found.rates, key=lambda rate: (1e-3 / rate) ** 2 + (rate / 3) ** 2)  # of large and of small rates
    assert lowest / 2 < 10 * found.tenth_of_lowest < lowest * 2
    assert found.rates[-1] < 100 and found.losses[-1] > 4, "it stops once the loss is far above its beginning"


def test_losses_below_zero_are_taken_as_others_are():
    above = range_of(lambda rate: 2 - 1 / (1 + (1e-3 / rate) ** 2))
    below = range_of(lambda rate: -8 - 1 / (1 + (1e-3 / rate) ** 2))
    assert len(above.rates) == len(below.rates) == 81
    assert above.steepest == below.steepest and above.falls and below.falls


def test_a_loss_that_never_falls_suggests_nothing():
    assert not range_of(lambda rate: 1.0).falls
    assert not range_of(lambda rate: 1.0 + rate).falls


def test_a_step_that_is_not_finite_ends_it_and_is_left_out():
    found = range_of(lambda rate: float("nan") if rate > 0.9 else 1.0)
    assert found.rates[-1] == pytest.approx(10**-0.1, rel=1e-3) and np.isfinite(found.losses).all()


def test_nothing_to_see():
    with pytest.raises(TrainingError, match="the loss is not finite after 0 step.*learning rate of 1e-06 already"):
        range_of(lambda rate: float("inf"))


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


def test_a_place_that_cannot_be_written_to_is_told_before_any_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--config=configs/shapes.py:tiny", f"--output={tmp_path}/file/x"]) == 1
    assert f"--output={tmp_path}/file/x: is no directory that can be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--lowest=2", "--lowest=2 --highest=1: must be above 0, and rise"),
        ("--steps=3", "--steps=3: must be at least 10"),
    ],
)
def test_mistakes(flag, message, capsys):
    assert main(["--config=configs/shapes.py:tiny", flag]) == 1
    assert message in capsys.readouterr().err
