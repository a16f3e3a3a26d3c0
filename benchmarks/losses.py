"""Times the value and gradient of every loss relative to cross-entropy, and prints JSON.

`python benchmarks/losses.py` times all losses in LOSSES in turn on the same logits, and prints the minimum time of each
and its ratio to that of cross_entropy. Absolute times depend on the machine and its load; quote the ratios.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.losses import LOSSES


def main() -> None:
    """Parses the flags, measures, and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("losses", nargs="*", metavar="LOSS", help="names in LOSSES; default: all")
    flags = parser.parse_args()
    if unknown := set(flags.losses) - set(LOSSES):
        parser.error(f"unknown losses: {', '.join(sorted(unknown))}")
    random = np.random.default_rng(0)
    shape = (flags.batch, flags.size, flags.size)
    logits = jnp.asarray(random.normal(size=(*shape, flags.classes)), jnp.float32)
    label = jnp.asarray(random.integers(0, flags.classes, shape, np.uint8))
    names = ["cross_entropy", *(name for name in flags.losses or LOSSES if name != "cross_entropy")]
    calls = {name: jax.jit(jax.value_and_grad(LOSSES[name])) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(flags.rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call(logits, label))
            seconds[name].append(time.perf_counter() - begin)
    least = {name: min(values[1:]) for name, values in seconds.items()}  # the first call compiles
    result = {
        "device": jax.devices()[0].device_kind,
        "logits": list(logits.shape),
        "relative_to_cross_entropy": {name: round(value / least["cross_entropy"], 2) for name, value in least.items()},
        "seconds": {name: round(value, 5) for name, value in least.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
