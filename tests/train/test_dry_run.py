"""What a run would need, without running it: memory, operations and communication of each device."""

import dataclasses

import jax
import pytest

from flaxseg.config.files import load_config
from flaxseg.main import main
from flaxseg.train.accelerators import ACCELERATORS, Accelerator
from flaxseg.train.dry_run import dry_run
from flaxseg.train.program_cost import collectives, cost_of, shard_bytes
from flaxseg.train.sharding import make_mesh

PARAMETERS = 101_925
"""Of the network below."""


NETWORK = [
    "data.image_size=(16,16)",
    "data.options.size=(16,16)",
    "model.options.width=32",
    "model.options.depth=1",
    "train.steps_per_call=3",
    "log.every=3",
]


@pytest.fixture(scope="module")
def found():
    return dry_run(load_config("configs/shapes.py:tiny", NETWORK))


def test_the_parts_of_the_state_and_the_input_are_those_of_each_device(found):
    statistics = 2 * 4 * 256  # The mean and the variance of each channel of each BatchNorm.
    assert found.parts["parameters"] == 4 * PARAMETERS + statistics
    # Adam's two moments, and its count and that of the schedule.
    assert found.parts["optimizer"] == 2 * 4 * PARAMETERS + 8
    assert found.parts["moving average"] == 4 * PARAMETERS
    # Two of 16 images, of three bytes per pixel, and their labels.
    assert found.parts["input"] == 2 * 16 * 16 * 4
    assert found.step.memory > found.step.temporaries > 4 * PARAMETERS


def test_each_gradient_is_reduced_once(found):
    assert set(found.step.collectives) == {"all-reduce"}
    _, size = found.step.collectives["all-reduce"]
    assert 4 * PARAMETERS < size < 1.05 * 4 * PARAMETERS


@pytest.mark.long
def test_operations_are_those_of_one_of_eight_devices(found):
    alone = dry_run(load_config("configs/shapes.py:tiny", [*NETWORK, "mesh.data=1"]))
    assert alone.step.flops == 8 * found.step.flops
    assert alone.step.collectives == {}
    assert alone.parts["input"] == 8 * found.parts["input"]


def test_the_estimate_is_the_slower_of_arithmetic_and_memory(found):
    seconds = found.seconds_per_epoch
    assert seconds(Accelerator("fast memory", 1e9, 1e6, 1e30)) == found.step.flops / 1e6
    assert seconds(Accelerator("slow memory", 1e30, 1e30, 1e6)) == found.step.bytes_accessed / 1e6


def test_short_times_have_two_digits(found):
    step = dataclasses.replace(found.step, flops=0.0, bytes_accessed=1.2e9)
    for steps, title, time in (
        (1, "1 step", "0.00025 s"),
        (100, "100 steps", "0.025 s"),
        (10_000_000, "10,000,000 steps", "2,500.0 s"),
    ):
        text = str(dataclasses.replace(found, step=step, steps_per_epoch=steps))
        assert f"\nleast time of an epoch of {title}, on as many devices; there is no estimate for CPUs\n" in text
        assert f"  {'NVIDIA H200':<38} {time}\n" in text


def test_the_command_prints_it_and_writes_nothing(found, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("flaxseg.train.dry_run.dry_run", lambda config: found)
    assert main(["--config=configs/shapes.py:tiny", f"--workdir={tmp_path / 'run'}", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "plain_unet, batch of 16 images of 16x16x3, float32, on 8 x cpu (replicas=1, data=8, fsdp=1, spatial=1)\n"
    )
    for part in ("  parameters ", "400 KiB", "  largest batch that fits (all devices)  about ", *ACCELERATORS):
        assert part in text
    assert not (tmp_path / "run").exists()


def test_collectives_are_counted_with_their_results():
    program = """
  %all-reduce.1 = (f32[64]{0}, bf16[3,3,2]{2,1,0}) all-reduce(%a, %b), channel_id=1
  %all-reduce.2 = f32[] all-reduce(%c), channel_id=2
  %all-gather-start.1 = (f32[8]{0}, f32[64]{0}) all-gather-start(%d), channel_id=3
  %all-gather-done.1 = f32[64]{0:T(256)} all-gather-done(%all-gather-start.1)
  ROOT %permuted = u8[10]{0} collective-permute(%e), source_target_pairs={{0,1}}
  %fusion = f32[64]{0} fusion(%all-reduce.1), calls=%computation
"""
    assert collectives(program) == {
        "all-reduce": (2, 4 * 64 + 2 * 18 + 4),
        "all-gather": (1, 256),
        "collective-permute": (1, 10),
    }


def test_the_cost_of_a_product_is_known():
    mesh = make_mesh(data=8)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    left = jax.ShapeDtypeStruct((64, 32), "float32", sharding=rows)
    right = jax.ShapeDtypeStruct((32, 16), "float32", sharding=jax.sharding.NamedSharding(mesh, jax.P()))
    cost = cost_of(jax.jit(lambda a, b: a @ b), left, right, devices=8)
    assert cost.flops == 2 * 8 * 32 * 16
    assert cost.memory - cost.temporaries == 4 * (8 * 32 + 32 * 16 + 8 * 16)
    assert shard_bytes((left, right)) == 4 * (8 * 32 + 32 * 16)
