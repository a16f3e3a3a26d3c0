"""Measures one aspect of an accelerator, and prints JSON; accelerator.py runs each part in a process of its own.

python benchmarks/accelerator_parts.py matmul --side 8192
python benchmarks/accelerator_parts.py epochs --size 128 --batch 16 --images 512
python benchmarks/accelerator_parts.py forms --size 128 --batch 16
python benchmarks/accelerator_parts.py digest --size 128 --batch 16
"""

import argparse
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import ratios

from flaxseg import compile_cache, ops
from flaxseg.config.files import load_config
from flaxseg.losses import weighted_sum
from flaxseg.models import build_model
from flaxseg.train.build import Run, build
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.sharding import device_prefetch
from flaxseg.train.state import create_state, load_weights
from flaxseg.train.step import create_train_state, train_step
from flaxseg.train.training_data import training_data


def seconds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each call in each round; the calls take turns, after a first round that compiles."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            if number:
                found[name].append(time.perf_counter() - begin)
    return found


def matmul(side: int, rounds: int) -> dict[str, Any]:
    """Returns the rate of products of two square bfloat16 matrices in TFLOP/s, the fastest of several rounds of ten."""
    left, right = (jax.random.normal(jax.random.key(seed), (side, side), jnp.bfloat16) for seed in range(2))
    products = 10

    @jax.jit
    def chain(left: jax.Array, right: jax.Array) -> jax.Array:
        # Each product needs the one before, so that none is left out.
        return jax.lax.fori_loop(0, products, lambda _, x: (x @ right) * jnp.bfloat16(side**-0.5), left)

    fastest = min(seconds({"chain": lambda: chain(left, right)}, rounds)["chain"])
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "tflops": 2 * side**3 * products / fastest / 1e12,
    }


def epochs(size: int, batch: int, images: int, rounds: int) -> dict[str, Any]:
    """Compares an epoch in one compiled program with one step by step; the training set is on the device in both."""
    steps = images // batch
    calls = {name: _epoch(_epoch_run(size, batch, images, k), steps // k) for name, k in (("step", 1), ("scan", steps))}
    found = seconds(calls, rounds)
    per_step = {name: 1000 * min(each) / steps for name, each in found.items()}
    return {"ms_per_step": per_step, "speedup": ratios(found["step"], found["scan"])}


def _epoch_run(size: int, batch: int, images: int, steps_per_call: int) -> Run:
    """Returns a run that takes a number of steps per call, and an epoch in all."""
    steps = images // batch
    overrides = [
        f"data.image_size=({size},{size})", "data.cache=device", f"data.options.count={images}",
        f"data.options.size=({size},{size})", f"train.batch_size={batch}", f"train.steps={steps}",
        f"train.steps_per_call={steps_per_call}", f"log.every={steps}", f"eval.every={steps}",
        "optimizer.warmup_steps=0", "optimizer.ema_decay=0.0", "train.precision=bfloat16", "augment.flip=0.5",
        "mesh.data=1",
    ]  # fmt: skip
    return build(load_config("shapes", overrides))


def _epoch(run: Run, calls: int) -> Callable[[], Any]:
    """Returns a function that takes the next epoch of a run, as its training loop does."""
    state = create_state(run, load_weights(run))
    data, stored = training_data(run, state)
    train, key, k = compile_run(run, state).train, run.loop.step_key, run.loop.call.steps
    batches = device_prefetch(data.calls(start=0, steps=k), run.loop.mesh, is_stacked=k > 1)
    numbers = itertools.count(step=k)

    def call() -> Any:
        nonlocal state
        for number, batch in zip(itertools.islice(numbers, calls), batches, strict=False):
            state = train(state, batch, key, stored, Turn(number, 0, 0)).state
        return state

    return call


class Form(NamedTuple):
    """A function of `flaxseg.ops`, and its plain form."""

    ours: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    shapes: Callable[[int, int], list[tuple[int, ...]]]
    """(batch, size) -> the shapes of the arguments."""


def _plain_conv(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def _plain_transposed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _plain_resize(x: jax.Array) -> jax.Array:
    return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear", antialias=False)


FORMS = {
    "convolution over two inputs": Form(
        lambda x, y, kernel: ops.conv([x, y], kernel),
        lambda x, y, kernel: _plain_conv(jnp.concatenate([x, y], -1), kernel),
        lambda b, s: [(b, s, s, 32), (b, s, s, 32), (3, 3, 64, 32)],
    ),
    "convolution 1x1": Form(ops.conv, _plain_conv, lambda b, s: [(b, s, s, 64), (1, 1, 64, 64)]),
    "depthwise convolution": Form(
        functools.partial(ops.conv, groups=64),
        functools.partial(_plain_conv, feature_group_count=64),
        lambda b, s: [(b, s, s, 64), (3, 3, 1, 64)],
    ),
    "transposed convolution 2x2": Form(
        ops.conv_transpose, _plain_transposed, lambda b, s: [(b, s // 2, s // 2, 64), (2, 2, 64, 32)]
    ),
    "max pooling": Form(
        ops.max_pool, functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)), lambda b, s: [(b, s, s, 64)]
    ),
    "bilinear resizing": Form(
        lambda x: ops.resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2])),
        _plain_resize,
        lambda b, s: [(b, s // 2, s // 2, 64)],
    ),
    "GELU": Form(ops.gelu, functools.partial(nn.gelu, approximate=False), lambda b, s: [(b, s, s, 64)]),
}


def forms(size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Compares values and gradients of each form of `flaxseg.ops` with those of the plain form, in bfloat16.

    The ratio is the time of the plain form divided by that of ours; above 1, ours is faster.
    """
    found = {}
    for name, form in FORMS.items():
        shapes = form.shapes(batch, size)
        arguments = [jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i, shape in enumerate(shapes)]
        calls: dict[str, Callable[[], Any]] = {}
        for side, function in (("ours", form.ours), ("plain", form.plain)):
            calls[f"{side} forward"] = functools.partial(jax.jit(function), *arguments)
            calls[f"{side} gradient"] = functools.partial(_gradient(function, len(arguments)), *arguments)
        times = seconds(calls, rounds)
        found[name] = {
            phase: ratios(times[f"plain {phase}"], times[f"ours {phase}"]) for phase in ("forward", "gradient")
        }
    return found


def _gradient(function: Callable[..., jax.Array], count: int) -> Callable[..., Any]:
    """Returns the gradient of the sum of squares of a function's result, for all of its arguments."""
    loss = lambda *arguments: jnp.square(function(*arguments).astype(jnp.float32)).mean()  # noqa: E731
    return jax.jit(jax.grad(loss, argnums=tuple(range(count))))


def digest(size: int, batch: int, steps: int) -> dict[str, Any]:
    """Returns a digest of all parameters of a small U-Net after a few steps, and the milliseconds of a step."""
    model: Any = build_model("plain_unet", num_classes=3, dtype=jnp.bfloat16, width=16, depth=3)
    tx = optax.adamw(1e-3)
    random = np.random.default_rng(0)
    given: Any = {
        "image": jnp.asarray(random.integers(0, 256, (batch, size, size, 3), np.uint8)),
        "label": jnp.asarray(random.integers(0, 3, (batch, size, size), np.uint8)),
    }
    state = jax.jit(functools.partial(create_train_state, model=model, tx=tx))(jax.random.key(0), given["image"])
    loss_fn = weighted_sum({"cross_entropy": 1.0})
    step = jax.jit(functools.partial(train_step, model=model, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, given, jax.random.key(1)))
        times.append(time.perf_counter() - begin)
    contents = hashlib.sha256()
    for leaf in jax.tree.leaves(state.params):
        contents.update(np.asarray(leaf).tobytes())
    return {"digest": contents.hexdigest(), "ms_per_step": 1000 * min(times)}


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("matmul", "epochs", "forms", "digest"))
    parser.add_argument("--side", type=int, default=8192, help="rows and columns of the matrices")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=512, help="training images of an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, or steps of `digest`")
    flags = parser.parse_args()
    if flags.part == "matmul":
        found = matmul(flags.side, flags.rounds)
    elif flags.part == "digest":
        # Two runs are only compared if both have compiled.
        found = digest(flags.size, flags.batch, flags.rounds)
    else:
        compile_cache.enable()
        if flags.part == "epochs":
            found = epochs(flags.size, flags.batch, flags.images, flags.rounds)
        else:
            found = forms(flags.size, flags.batch, flags.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
