"""The times of a step, for any network and encoder."""

import pytest

from benchmarks import step


def test_inference_of_any_network_and_encoder_is_timed(small_encoder):
    found = step.measure(
        "unet", encoder=small_encoder, batch=2, size=16, steps=3, num_classes=2, phases=("infer",), devices=2
    )
    assert (found["model"], found["encoder"], found["batch"], found["size"]) == ("unet", "small", 2, 16)
    assert found["devices"] == 2
    times = found["infer"]
    assert 0 < times["wall_min"] <= times["wall_median"]
    assert times["gflop"] > 0
    assert 0 < found["start_rss_mib"] <= found["peak_rss_mib"]
    assert "train" not in found


@pytest.mark.long
def test_a_training_step_multiplies_three_times_as_much():
    found = step.measure("plain_unet", batch=1, size=32, steps=1)
    assert found["params"] == 7_763_107
    assert found["train"]["gflop"] / found["infer"]["gflop"] == pytest.approx(3, rel=0.05)
    assert found["bf16"] is False
