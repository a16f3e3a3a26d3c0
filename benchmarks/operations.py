"""Prints where the time of a training step, or of inference, goes on the CPU: a table of its slowest operations.

    python benchmarks/operations.py --phase infer
    python benchmarks/operations.py --model unet --encoder resnet34 --batch 4 --size 256 --top 30

The profiler of JAX times each operation of the compiled program. Operations that run at the same time compete for the
cores, so that their times add up to more than that of the whole. Convolutions are compared with a single one, 3x3 with
64 channels.
"""

import argparse
import collections
import functools
import gzip
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from measuring import Part, print_result, result, table, text
from step import PHASES, clock, programs

from flaxseg import compile_cache, host_memory

_CALLS = 3
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


class Operation(NamedTuple):
    """An operation of a compiled program.

    Attributes:
      name: its place in the network, or its name in the program.
      kind: "convolution", "product", or "other": passes over memory.
      shape: the shape of its result.
      gflop: 1e9 floating-point operations, of convolutions and products.
    """

    name: str
    kind: str
    shape: str
    gflop: float


def operations(program: str) -> dict[str, Operation]:
    """Returns the operations in the text of a compiled program, by their names there."""
    lines = dict(re.findall(r"^\s*(?:ROOT )?%([\w.-]+) = (.*)$", program, re.MULTILINE))
    bodies = {
        name: re.findall(r"%([\w.-]+) = ", body)
        for name, body in re.findall(r"^%([\w.-]+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL)
    }
    found = {}
    for name, line in lines.items():
        called = re.search(r"calls=%([\w.-]+)", line)
        inner = [lines[each] for each in bodies.get(called[1], [])] if called else [line]
        work = {"convolution": 0.0, "product": 0.0}
        for each in inner:
            work["convolution"] += _convolution_gflop(each, lines) if " convolution(" in each else 0.0
            work["product"] += _product_gflop(each, lines) if " dot(" in each else 0.0
        kind = max(work, key=lambda kind: work[kind]) if any(work.values()) else "other"
        place = re.search(r'op_name="(?:jit\(\w+\)/)*([^"]*)"', line)
        shape = _SHAPE.search(line)
        found[name] = Operation(place[1] if place else name, kind, shape[0] if shape else "", sum(work.values()))
    return found


def _convolution_gflop(line: str, lines: Mapping[str, str]) -> float:
    out = _dimensions(line)
    operands = re.search(r"convolution\(%([\w.-]+), %([\w.-]+)\)", line)
    labels = re.search(r"dim_labels=\w+_(\w+)->", line)
    assert operands and labels
    kernel = _dimensions(lines[operands[2]])
    return 2e-9 * math.prod(out) * math.prod(kernel) / kernel[labels[1].index("o")]


def _product_gflop(line: str, lines: Mapping[str, str]) -> float:
    operands = re.search(r"dot\(%([\w.-]+), %", line)
    axes = re.search(r"lhs_contracting_dims=\{([\d,]+)\}", line)
    assert operands and axes
    left = _dimensions(lines[operands[1]])
    return 2e-9 * math.prod(_dimensions(line)) * math.prod(left[int(axis)] for axis in axes[1].split(","))


def _dimensions(line: str) -> list[int]:
    shape = _SHAPE.search(line)
    assert shape
    return [int(length) for length in shape[1].split(",") if length]


def milliseconds(call: Callable[[], Any]) -> dict[str, float]:
    """Returns the time of each operation in one call, by its name in the program."""
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(_CALLS):
                jax.block_until_ready(call())
        (path,) = Path(folder).rglob("*.trace.json.gz")
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    for event in events:
        if "hlo_op" in event.get("args", {}):
            total[event["args"]["hlo_op"]] += event["dur"] / 1000 / _CALLS
    return dict(total)


def convolution_rate() -> float:
    """Returns the rate in GFLOP/s of a 3x3 convolution of 8 images of 64x64 with 64 channels."""
    x, kernel = jnp.ones((8, 64, 64, 64)), jnp.ones((3, 3, 64, 64))
    options: dict[str, Any] = {"window_strides": (1, 1), "padding": "SAME"}
    options["dimension_numbers"] = ("NHWC", "HWIO", "NHWC")
    convolve = jax.jit(functools.partial(jax.lax.conv_general_dilated, **options))
    return 2e-9 * 9 * x.size * 64 / clock(lambda: convolve(x, kernel), 20)["wall_min"]


def parts(found: Mapping[str, Operation], times: Mapping[str, float], rate: float, top: int) -> list[Part]:
    """Returns the tables of kinds and of the slowest operations.

    Args:
      found: the operations.
      times: their milliseconds.
      rate: the rate of a convolution alone, in GFLOP/s.
      top: number of operations to list.
    """
    total = sum(times.values())
    kinds: dict[str, list[float]] = {}
    rows = []
    for name, spent in sorted(times.items(), key=lambda item: -item[1]):
        each = found.get(name, Operation(name, "other", "", 0.0))
        entry = kinds.setdefault(each.kind, [0.0, 0.0])
        entry[0] += spent
        entry[1] += each.gflop
        row = [f"`{each.name[-70:]}`", each.shape, f"{spent:.2f}", f"{spent / total:.1%}"]
        rows.append([*row, *_rate(each.gflop, spent, rate)])
    columns = ["ms", "share", "GFLOP/s", "of the rate of a convolution alone"]
    by_kind = [[kind, f"{ms:.1f}", f"{ms / total:.1%}", *_rate(work, ms, rate)] for kind, (ms, work) in kinds.items()]
    return [table(["kind", *columns], by_kind), table(["operation", "result", *columns], rows[:top])]


def _rate(gflop: float, ms: float, rate: float) -> list[str]:
    return [f"{gflop / ms * 1000:.0f}", f"{gflop / ms * 1000 / rate:.0%}"] if gflop else ["", ""]


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    host_memory.restart_with_large_pages()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plain_unet", help="the network (default: plain_unet)")
    parser.add_argument("--encoder", default="", help="its encoder (default: the network's own)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--phase", choices=PHASES, default="train")
    parser.add_argument("--top", type=int, default=12, help="number of operations to list (default: 12)")
    flags = parser.parse_args()
    compile_cache.enable()
    made, key = programs(flags.model, batch=flags.batch, size=flags.size, encoder=flags.encoder), jax.random.key(1)
    arguments = (made.state, made.batch, key) if flags.phase == "train" else (made.state, made.batch["image"])
    compiled = getattr(made, flags.phase).lower(*arguments).compile()
    state = made.state

    def call() -> Any:
        nonlocal state
        if flags.phase == "infer":
            return compiled(state, made.batch["image"])
        state, metrics = compiled(state, made.batch, key)
        return metrics

    whole = clock(call, 4)["wall_median"]
    rate = convolution_rate()
    network = "-".join(filter(None, [flags.model, flags.encoder]))
    what = "training step" if flags.phase == "train" else "forward pass"
    about = f"""A {what} of `{network}`, {flags.batch} images of {flags.size}x{flags.size}, took {1000 * whole:.0f} ms;
    a 3x3 convolution alone runs at {rate:.0f} GFLOP/s here."""
    tables = parts(operations(compiled.as_text()), milliseconds(call), rate, flags.top)
    title = f"Operations on the CPU: {network}, {flags.phase}"
    print_result(result(title, [text(about), *tables], versions=[f"jax {jax.__version__}"]))


if __name__ == "__main__":
    main()
