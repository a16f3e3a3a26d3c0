"""How long a data-parallel step takes on many devices: a model on paper, from the counts of a compiled program."""

import dataclasses
import math

from flaxseg.train.accelerators import ACCELERATORS, Accelerator
from flaxseg.train.program_cost import ProgramCost


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Devices of one kind, in groups within which they are joined by a faster network than between them.

    Attributes:
      name: names both networks.
      accelerator: the device.
      group: number of devices of a group.
      within: bytes a second that each device sends within its group, nominal.
      between: bytes a second that each device sends to other groups, nominal.
      latency: seconds that a message takes, however short.
    """

    name: str
    accelerator: Accelerator
    group: int
    within: float
    between: float
    latency: float


CLUSTERS = (
    Cluster("8 per node with NVLink 3, InfiniBand HDR", ACCELERATORS["NVIDIA A100 80GB"], 8, 300e9, 25e9, 5e-6),
    Cluster("8 per node with NVLink 4, InfiniBand NDR", ACCELERATORS["NVIDIA H100 SXM"], 8, 450e9, 50e9, 5e-6),
    Cluster("8 per node with NVLink 4, Ethernet of 100 Gb/s", ACCELERATORS["NVIDIA H100 SXM"], 8, 450e9, 1.6e9, 2e-5),
    Cluster("slices of 256, data center network", ACCELERATORS["Google TPU v5e"], 256, 200e9, 3.1e9, 2e-6),
)
"""Nominal values, rounded, and assumed latencies; none was measured."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """The parts of the time of a step, in seconds.

    Attributes:
      compute: arithmetic and accesses to memory, the slower of both.
      transfer: bytes of all-reduces on their way between devices.
      latency: waiting for the messages of all-reduces, however short.
    """

    compute: float
    transfer: float
    latency: float

    @property
    def communication(self) -> float:
        """Seconds of the all-reduces."""
        return self.transfer + self.latency

    @property
    def fraction(self) -> float:
        """The part of the step that the all-reduces take if no computation goes on meanwhile."""
        return self.communication / (self.compute + self.communication)


def step_time(cost: ProgramCost, cluster: Cluster, *, devices: int, bfloat16: bool) -> StepTime:
    """Returns the time of a step on a number of devices, each of which does the work in `cost`.

    For computation, see `Accelerator.seconds`. All-reduces are rings, in which each of n devices sends 2 (n - 1) / n of
    the bytes (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009): first within each group, then
    between the groups, where each device sends its own part of the sum. Every all-reduce waits for 2 log2(n) messages,
    as along a tree.

    Args:
      cost: the cost of a step on each device, with as many examples.
      cluster: the devices and their networks.
      devices: number of devices.
      bfloat16: whether the operations are in bfloat16.
    """
    count, size = cost.collectives.get("all-reduce", (0, 0))
    near = min(devices, cluster.group)
    groups = math.ceil(devices / cluster.group)
    within = 2 * (near - 1) / near * size / cluster.within
    between = 2 * (groups - 1) / groups * size / near / cluster.between
    return StepTime(
        compute=cluster.accelerator.seconds(cost, bfloat16=bfloat16),
        transfer=within + between,
        latency=count * 2 * math.log2(devices) * cluster.latency,
    )


def smallest_batch(time: StepTime, batch_size: int, *, fraction: float) -> int:
    """Returns how many examples each device needs so that all-reduces take at most a fraction of the step.

    Computation grows with the examples of a device, while the all-reduces do not.

    Args:
      time: the time of a step.
      batch_size: the number of examples of each device in it.
      fraction: above 0 and below 1.
    """
    return max(math.ceil(batch_size * time.communication / time.compute * (1 - fraction) / fraction), 1)
