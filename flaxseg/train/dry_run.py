"""What a run would need: memory, operations, communication and time, found by compiling its step without running it."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.members import named_together
from flaxseg.config.schema import leaves
from flaxseg.data.memory import available_memory, size_text
from flaxseg.data.types import Batch
from flaxseg.errors import ConfigError, number_of
from flaxseg.train.accelerators import ACCELERATORS, Accelerator
from flaxseg.train.build import Run, build
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.program_cost import ProgramCost, cost_of, shard_bytes
from flaxseg.train.sharding import batch_divisor, batch_shapes
from flaxseg.train.state import abstract_state

_FRACTION = 0.9
"""Of the memory of a device; the rest is left for the allocator and the libraries."""

_LARGE = (16, 32)
"""The batches that the largest one is estimated from, relative to that of the run."""


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What each device needs for a run.

    Attributes:
      title: names the network, the batch and the devices.
      parts: bytes of the state and the input, by name.
      step: the cost of a step.
      memory: bytes of memory that a device has.
      largest_batch: number of examples, over all devices, that is estimated to fit; 0 if not even the smallest does.
      steps_per_epoch: number of steps that one epoch takes.
      bfloat16: whether activations are bfloat16.
    """

    title: str
    parts: dict[str, int]
    step: ProgramCost
    memory: int
    largest_batch: int
    steps_per_epoch: int
    bfloat16: bool

    def seconds_per_epoch(self, accelerator: Accelerator) -> float:
        """Returns the least time of an epoch on as many of these accelerators, without input and evaluation.

        See `Accelerator.seconds`.
        """
        return accelerator.seconds(self.step, bfloat16=self.bfloat16) * self.steps_per_epoch

    def __str__(self) -> str:
        rows = [(name, size_text(size)) for name, size in self.parts.items()]
        rows += [
            ("activations and other temporaries", size_text(self.step.temporaries)),
            ("peak of a step", f"{size_text(self.step.memory)} of {size_text(self.memory)}"),
            ("operations of a step", f"{self.step.flops / 1e9:,.1f} GFLOP"),
        ]
        rows += [
            (f"{name} of a step", f"{count}, {size_text(size)}")
            for name, (count, size) in sorted(self.step.collectives.items())
        ]
        fits = f"about {self.largest_batch:,} examples" if self.largest_batch else "none"
        rows.append(("largest batch that fits (all devices)", fits))
        lines = [self.title, "", "for each device", *(f"  {name:<38} {value}" for name, value in rows)]
        epoch = f"an epoch of {number_of(self.steps_per_epoch, 'step')}"
        lines += ["", f"least time of {epoch}, on as many devices; there is no estimate for CPUs"]
        lines += [f"  {each.name:<38} {_seconds_text(self.seconds_per_epoch(each))}" for each in ACCELERATORS.values()]
        return "\n".join(lines)


def dry_run(config: ConfigDict) -> DryRun:
    """Returns what a run would need; compiles its step for three batch sizes, and writes nothing.

    Args:
      config: see `train_and_evaluate`.

    Raises:
      ConfigError, DataError: see `train_and_evaluate`.
    """
    run = build(config)
    if run.data.views:
        raise ConfigError(
            "config.data.cache = 'features': a dry run describes a step that reads images; use data.cache = 'none'"
        )
    if named := named_together(dict(leaves(config))):
        raise ConfigError(f"config.{named}: a dry run describes a step of one run; use ()")
    mesh, call = run.loop.mesh, run.loop.call
    state = abstract_state(run)
    first = run.data.read_batch(0)
    step = step_cost(run, state, first, call.batch_size)
    memory = _device_memory(run)
    batch = batch_shapes(first, mesh, size=call.batch_size)
    parts = {
        "parameters": shard_bytes((state.params, state.batch_stats)),
        "optimizer": shard_bytes(state.opt_state),
        "moving average": shard_bytes(state.ema_params),
        "input": shard_bytes({name: batch[name] for name in ("image", "label")}),
    }
    if run.data.load_cache:
        parts["training set"] = parts["input"] * run.data.load_cache.count // call.batch_size
    devices = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    height, width, channels = run.model.image_shape
    return DryRun(
        title=f"{run.model.name}, batch of {call.batch_size:,} images of {height}x{width}x{channels}, "
        f"{config.train.precision}, on {mesh.size} x {mesh.devices.flat[0].device_kind} ({devices})",
        parts={name: size for name, size in parts.items() if size},
        step=step,
        memory=memory,
        largest_batch=_largest_batch(run, state, first, int(_FRACTION * memory) - parts.get("training set", 0)),
        steps_per_epoch=max(len(run.data.train.source) // call.batch_size, 1),
        bfloat16=config.train.precision == "bfloat16",
    )


def _seconds_text(seconds: float) -> str:
    """Returns a time with at least two significant digits, such as `0.031 s` or `1,234.5 s`."""
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def step_cost(run: Run, state: Any, first: Batch, batch_size: int) -> ProgramCost:
    """Returns the cost of a step with a number of examples.

    Args:
      run: its configuration decides on everything but the batch size.
      state: the shapes and the sharding of the state, from `abstract_state`.
      first: a batch of the run, whose arrays are taken for their names and types.
      batch_size: number of examples, over all devices.
    """
    call = dataclasses.replace(run.loop.call, steps=1)
    single = dataclasses.replace(run, loop=dataclasses.replace(run.loop, call=call))
    batch, turn = batch_shapes(first, run.loop.mesh, size=batch_size), Turn(0, 0, max_skipped=0)
    train = compile_run(single, state).train
    return cost_of(train, state, batch, run.loop.step_key, {}, turn, devices=run.loop.mesh.size)


def _device_memory(run: Run) -> int:
    """Returns the bytes of memory that each device of the run has."""
    statistics = [device.memory_stats() or {} for device in run.loop.mesh.local_devices]
    limits = [found["bytes_limit"] for found in statistics if "bytes_limit" in found]
    return int(min(limits)) if limits else available_memory() // len(run.loop.mesh.local_devices)


def _largest_batch(run: Run, state: Any, first: Batch, memory: int) -> int:
    """Returns the largest batch that fits into a device's memory.

    Memory grows in proportion to the batch once its activations take more than the gradients, for which large batches
    are compiled.
    """
    divisor, sizes = batch_divisor(run.loop.mesh), [factor * run.loop.call.batch_size for factor in _LARGE]
    few, many = (step_cost(run, state, first, size).memory for size in sizes)
    per_example = (many - few) / (sizes[1] - sizes[0])
    return max(int(sizes[0] + (memory - few) / max(per_example, 1)) // divisor * divisor, 0)
