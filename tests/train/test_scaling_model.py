"""The model of large runs: its formulas by hand, and its assumptions against compiled programs for 1 to 8 devices."""

import dataclasses

import pytest

from flaxseg.config.files import load_config
from flaxseg.train.accelerators import Accelerator
from flaxseg.train.build import build
from flaxseg.train.dry_run import step_cost
from flaxseg.train.program_cost import ProgramCost, shard_bytes
from flaxseg.train.scaling_model import CLUSTERS, Cluster, StepTime, smallest_batch, step_time
from flaxseg.train.state import abstract_state

COST = ProgramCost(
    memory=0, temporaries=0, flops=6e9, bytes_accessed=1e9, collectives={"all-reduce": (10, 800_000_000)}, text=0
)
CLUSTER = Cluster(
    "", Accelerator("", bfloat16=3e9, float32=1e9, bandwidth=1e9), 8, within=1e9, between=1e8, latency=1e-3
)


def test_the_time_of_a_step_is_that_of_its_formulas():
    one = step_time(COST, CLUSTER, devices=1, bfloat16=True)
    assert one == StepTime(compute=2.0, transfer=0.0, latency=0.0) and one.fraction == 0
    eight = step_time(COST, CLUSTER, devices=8, bfloat16=False)
    # 7/8 of 0.8 GB twice at 1 GB/s; ten reductions, three levels of the tree up and down.
    assert dataclasses.astuple(eight) == pytest.approx((6.0, 1.4, 0.06))
    assert eight.fraction == pytest.approx(1.46 / 7.46)
    many = step_time(COST, CLUSTER, devices=64, bfloat16=False)
    # Each of the eight devices of a group sends its eighth of the sum to the other groups, at 0.1 GB/s.
    assert dataclasses.astuple(many) == pytest.approx((6.0, 1.4 + 1.75, 0.12))


def test_the_smallest_batch_keeps_all_reduces_within_the_fraction():
    time = StepTime(compute=1.0, transfer=0.3, latency=0.2)
    # With 36 instead of 8 examples, computation takes 4.5 s, and the all-reduces half a second of five.
    assert smallest_batch(time, 8, fraction=0.1) == 36
    assert smallest_batch(StepTime(1.0, 0.0, 0.0), 8, fraction=0.1) == 1


def test_larger_clusters_are_slower():
    for cluster in CLUSTERS:
        fractions = [step_time(COST, cluster, devices=devices, bfloat16=True).fraction for devices in (8, 64, 512)]
        assert 0 < fractions[0] < fractions[1] < fractions[2] < 1


def found(devices, axis="data", overrides=()):
    """Returns the state and the cost of a step with four examples of 32x32 pixels for each of the devices."""
    batch = 4 * devices
    network = ["model.options.width=8", "model.options.depth=1", "loss={}", "loss.cross_entropy=1.0"]
    sizes = ["data.image_size=(32,32)", "data.options.size=(32,32)", f"train.batch_size={batch}"]
    sizes += [f"eval.batch_size={batch}", "mesh.data=1", f"mesh.{axis}={devices}", "data.options.count=64"]
    run = build(load_config("configs/shapes.py:tiny", [*network, *sizes, *overrides]))
    state = abstract_state(run)
    return state, step_cost(run, state, run.data.read_batch(0), batch)


@pytest.mark.long
def test_the_counts_on_one_to_eight_devices_are_those_of_the_model():
    """Operations of each device stay the same, and all-reduces have the bytes of the gradients, once."""
    costs = {devices: found(devices) for devices in (1, 2, 4, 8)}
    state, alone = costs[1]
    assert alone.collectives == {}
    parameters, statistics = shard_bytes(state.params), shard_bytes(state.batch_stats)
    for devices, (_, cost) in list(costs.items())[1:]:
        assert cost.flops == alone.flops
        assert set(cost.collectives) == {"all-reduce"}
        _, size = cost.collectives["all-reduce"]
        # For each channel of a BatchNorm, two sums of the forward and at most two of the backward pass, which the
        # gradients of its parameters may be; and some scalars.
        assert statistics < size - parameters < 2 * statistics + 200
        assert cost.collectives == costs[2][1].collectives, devices
        assert cost.memory == pytest.approx(costs[2][1].memory, rel=0.01)
        assert cost.text == pytest.approx(costs[2][1].text, rel=0.01)


def test_state_is_an_eighth_with_fsdp():
    whole, split = (
        abstract_state(build(load_config("configs/shapes.py", [f"mesh.{axis}=8"]))) for axis in ("data", "fsdp")
    )
    total, part = (shard_bytes((state.params, state.opt_state)) for state in (whole, split))
    # Vectors, such as biases, are on each device.
    assert total / 8 < part < 1.03 * total / 8


@pytest.mark.long
def test_temporaries_are_a_sixth_with_spatial():
    network = ["model.options.width=8", "model.options.depth=2", "loss={}", "loss.cross_entropy=1.0"]
    sizes = ["data.image_size=(512,64)", "data.options.size=(512,64)", "train.batch_size=1", "eval.batch_size=1"]
    costs = {}
    for devices in (1, 8):
        mesh = ["mesh.data=1", f"mesh.spatial={devices}"]
        run = build(load_config("configs/shapes.py:tiny", [*network, *sizes, *mesh, "data.options.count=8"]))
        costs[devices] = step_cost(run, abstract_state(run), run.data.read_batch(0), 1)
    assert costs[8].temporaries < costs[1].temporaries / 6
