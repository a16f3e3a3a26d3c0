"""The nominal peak rates of well-known accelerators, and the least time of a program on them."""

import dataclasses

from flaxseg.train.program_cost import ProgramCost


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The nominal peak rates of an accelerator, for dense operations.

    Attributes:
      name: as it is sold.
      bfloat16: floating-point operations a second in bfloat16.
      float32: the same in float32; NVIDIA's in TF32, TPUs' in three passes of bfloat16.
      bandwidth: bytes a second between the chip and its memory.
    """

    name: str
    bfloat16: float
    float32: float
    bandwidth: float

    def seconds(self, cost: ProgramCost, *, bfloat16: bool) -> float:
        """Returns the least time of a program's arithmetic and memory accesses.

        It takes at least the time of its operations at the peak rate, and that of its memory accesses (Williams,
        Waterman and Patterson, "Roofline", 2009); the latter are those of the program for this platform.

        Args:
          cost: the cost of the program on each device.
          bfloat16: whether its activations are bfloat16.
        """
        peak = self.bfloat16 if bfloat16 else self.float32
        return max(cost.flops / peak, cost.bytes_accessed / self.bandwidth)


ACCELERATORS = {
    each.name: each
    for each in (
        Accelerator("NVIDIA L4", 121e12, 60e12, 0.30e12),
        Accelerator("NVIDIA A100 80GB", 312e12, 156e12, 2.04e12),
        Accelerator("NVIDIA H100 SXM", 989e12, 494e12, 3.35e12),
        Accelerator("NVIDIA H200", 989e12, 494e12, 4.8e12),
        Accelerator("Google TPU v5e", 197e12, 66e12, 0.82e12),
        Accelerator("Google TPU v5p", 459e12, 153e12, 2.77e12),
        Accelerator("Google TPU v6e", 918e12, 306e12, 1.64e12),
    )
}
"""Accelerators by name: nominal values, rounded; none was measured."""
