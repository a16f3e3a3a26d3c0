"""What several seeds that are trained together require of the other keys."""

from collections.abc import Iterator, Mapping
from typing import Any


def seed_errors(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the errors of `train.seeds` with other keys.

    Args:
      values: the value of every key that is valid alone.
    """
    seeds = tuple(values.get("train.seeds", ()))
    if not seeds:
        return
    together = f"train.seeds = {seeds} are trained together"
    for axis in ("fsdp", "spatial"):
        if (size := values.get(f"mesh.{axis}", 1)) > 1:
            yield (
                f"config.mesh.{axis} = {size}: {together}, with the whole network on each device; use 1, or train each "
                "seed alone"
            )
    if values.get("data.cache") == "features":
        yield (
            f"config.data.cache = 'features': {together}, and each would need features of its own; use another cache, "
            "or train each seed alone"
        )
    if values.get("train.non_finite") == "rollback":
        yield (
            f"config.train.non_finite = 'rollback': {together}, and cannot return to a checkpoint one by one; use "
            "'stop' or 'skip', or train each seed alone"
        )
