"""A small training step on each device, and on all of them together, compared with the numbers of the CPU."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util
from jax.sharding import SingleDeviceSharding

from flaxseg.data.types import Batch
from flaxseg.diagnosis.findings import Finding, Problem, Row, one_line
from flaxseg.losses import weighted_sum
from flaxseg.models import plain_unet
from flaxseg.train.sharding import batch_sharding, data_mesh, replicated
from flaxseg.train.step import TrainState, create_train_state, train_step

TOLERANCE = 1e-4
"""The largest difference from the CPU, as a fraction of an array's largest number, that is taken for rounding.

Devices that compute float32 correctly, in another order, differ by 1e-7 to 1e-5.
"""

_SIZE = (32, 32)
_CLASSES = 3
_LEARNING_RATE = 1.0
"""Large, so that an error of the gradient shows in the parameters."""


def check_steps(devices: Sequence[Any] | None = None, cpu: Any = None) -> Iterator[Finding]:
    """Yields how far a training step on each device, and on all of them as a mesh, differs from that on the CPU.

    The step is computed in full float32, also by GPUs and TPUs that use fewer bits by default. Where that makes a
    difference, a further row has it.

    Args:
      devices: the devices; None for those that JAX uses.
      cpu: the device to compare with; None for the first CPU.
    """
    devices, cpu = jax.local_devices() if devices is None else list(devices), cpu or _cpu()
    # Each device gets at least one example.
    batch = _batch(max(8, len(devices)))
    with jax.default_matmul_precision("highest"):
        wanted = _step_on([cpu], batch)
    yield Row("compared", f"loss, gradients and batch statistics of a small U-Net; at most {TOLERANCE:g} may differ")
    places = [[device] for device in devices] + ([devices] if len(devices) > 1 else [])
    for place in places:
        yield from _compared(place, batch, wanted)
    if devices[0].platform != "cpu":
        difference = max(_differences(_step_on(devices[:1], batch), wanted).values())
        yield Row("by default", f"{difference:.1e} on {devices[0]}, with the precision that training uses")


def allow_cpu() -> None:
    """Lets JAX use the CPU beside the devices that JAX_PLATFORMS names; to be called before JAX finds its devices."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")


def _compared(place: Sequence[Any], batch: Batch, wanted: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    name = str(place[0]) if len(place) == 1 else f"{len(place)} devices"
    try:
        with jax.default_matmul_precision("highest"):
            differences = _differences(_step_on(place, batch), wanted)
    # XLA has many types of errors, and those of other devices are still to be checked.
    except Exception as error:
        remedy = "free its memory (`nvidia-smi` lists what runs there), or update its driver"
        yield Problem(f"{name}: a training step fails ({type(error).__name__}: {one_line(error)[:200]})", remedy)
        return
    worst = max(differences, key=differences.__getitem__)
    yield Row(name, f"{differences[worst]:.1e}")
    # The comparison is false for NaN.
    if not differences[worst] <= TOLERANCE:
        text = f"{name}: {worst} differs from the CPU's by {differences[worst]:.1e} of its largest value"
        if len(place) == 1:
            remedy = "do not train on it: leave it out (CUDA_VISIBLE_DEVICES), update its driver, or have it replaced"
        else:
            remedy = "train on one device, and update jax and the driver: a sum over devices is wrong"
        yield Problem(text, remedy)


def _cpu() -> Any:
    return jax.devices("cpu")[0]


def _batch(size: int) -> Batch:
    """Returns noise with a label that depends on it, the same one on every machine."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, *_SIZE, 3), dtype=np.uint8)
    return {"image": image, "label": (image[..., 0].astype(np.int32) * _CLASSES // 256).astype(np.uint8)}


def _step_on(devices: Sequence[Any], batch: Batch) -> dict[str, np.ndarray]:
    """Returns the results of one training step by name, computed on one device or on several."""
    state = _initial_state()
    everywhere: Any = SingleDeviceSharding(devices[0])
    parts: Any = everywhere
    if len(devices) > 1:
        mesh = data_mesh(devices)
        everywhere, parts = replicated(mesh), batch_sharding(mesh)
    placed = jax.device_put(state, everywhere), jax.device_put(batch, parts)
    new, metrics = jax.device_get(_jitted_step()(*placed))
    gradient = jax.tree.map(lambda before, after: before - after, state.params, new.params)
    found = {"loss": np.asarray(metrics.loss.compute())}
    for name, tree in (("gradient", gradient), ("batch statistics", new.batch_stats)):
        flat = traverse_util.flatten_dict(tree, sep="/")
        found |= {f"the {name} of {path}": value for path, value in flat.items()}
    return found


@functools.cache
def _network() -> tuple[Any, Any]:
    return plain_unet(num_classes=_CLASSES, width=8, depth=1), optax.sgd(_LEARNING_RATE)


@functools.cache
def _initial_state() -> TrainState:
    """Returns NumPy arrays, created on the CPU, so that every device starts from the same numbers."""
    model, tx = _network()
    image = jax.ShapeDtypeStruct((1, *_SIZE, 3), np.float32)
    with jax.default_device(_cpu()):
        create = functools.partial(create_train_state, image=image, model=model, tx=tx)
        return jax.device_get(jax.jit(create)(jax.random.key(0)))


@functools.cache
def _jitted_step() -> Any:
    """Returns the step (state, batch) -> (state, metrics), which is compiled for each kind of place."""
    model, tx = _network()
    step = functools.partial(train_step, model=model, loss_fn=weighted_sum({"cross_entropy": 1.0}), tx=tx)
    return jax.jit(lambda state, batch: step(state, batch, jax.random.key(1)))


def _differences(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference of each array, as a fraction of the largest number of its kind."""
    scales: dict[str, float] = {}
    for name, value in wanted.items():
        kind = name.partition(" of ")[0]
        scales[kind] = max(scales.get(kind, 0.0), float(np.abs(value).max()))
    return {
        name: float(np.abs(found[name] - value).max()) / scales[name.partition(" of ")[0]]
        for name, value in wanted.items()
    }
