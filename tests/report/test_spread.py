"""The table of several runs' scores."""

from flaxseg.report.spread import spread_table


def test_mean_and_standard_deviation_by_hand():
    """The deviations of 0.2, 0.4 and 0.9 from 0.5 are 0.3, 0.1 and 0.4; (0.09 + 0.01 + 0.16) / 2 = 0.13."""
    scores = {f"seed-{n}": {"miou": value, "kappa": 0.25} for n, value in enumerate((0.2, 0.4, 0.9))}
    assert spread_table(scores, ["kappa", "miou"]).splitlines() == [
        "                              kappa     miou",
        "seed-0                       0.2500   0.2000",
        "seed-1                       0.2500   0.4000",
        "seed-2                       0.2500   0.9000",
        "mean                         0.2500   0.5000",
        "standard deviation (n = 3)   0.0000   0.3606",
    ]


def test_each_group_has_its_mean_and_deviation():
    scores = {name: {"miou": value} for name, value in zip("abcd", (0.25, 0.75, 0.5, 0.125), strict=True)}
    groups = {"a": "slow", "b": "slow", "c": "fast", "d": "fast"}
    assert spread_table({**scores, "d": {}}, ["miou"], groups).splitlines() == [
        "                                     miou",
        "a                                  0.2500",
        "b                                  0.7500",
        "c                                  0.5000",
        "slow: mean                         0.5000",
        "slow: standard deviation (n = 2)   0.3536",
    ]


def test_runs_without_scores_are_omitted():
    assert spread_table({"a": {"miou": 0.5}, "b": {}}, ["miou"]).splitlines() == ["      miou", "a   0.5000"]
    assert spread_table({"a": {}}, ["miou"]) == "no evaluation yet"
