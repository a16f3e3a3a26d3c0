"""The table of several runs' scores."""

from flaxseg.report.spread import spread_table


def test_mean_and_standard_deviation_by_hand():
    """The deviations of 0.2, 0.4 and 0.9 from 0.5 are 0.3, 0.1 and 0.4; (0.09 + 0.01 + 0.16) / 2 = 0.13."""
    scores = {f"seed {n}": {"miou": value, "kappa": 0.25} for n, value in enumerate((0.2, 0.4, 0.9))}
    assert spread_table(scores, ["kappa", "miou"]).splitlines() == [
        "                              kappa     miou",
        "seed 0                       0.2500   0.2000",
        "seed 1                       0.2500   0.4000",
        "seed 2                       0.2500   0.9000",
        "mean                         0.2500   0.5000",
        "standard deviation (n = 3)   0.0000   0.3606",
    ]


def test_runs_without_scores_are_omitted():
    table = spread_table({"seed 0": {"miou": 0.5}, "seed 1": {}}, ["miou"])
    assert "seed 1" not in table and "standard deviation (n = 1)      nan" in table
    assert spread_table({"seed 0": {}}, ["miou"]) == "no evaluation yet"
